import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import OpenAI from 'openai'
import { seedRandom } from '../../bench/simulation/random.ts'
import {
  badNumbers,
  downloadRows,
  endpoint,
  goodNumbers,
  thousandLines,
  uploadLines,
} from '../helpers/batch-lines.ts'
import { eventually, type Server } from '../helpers/server.ts'
import { FakeUpstream } from '../helpers/upstream.ts'
import { answer, instanceAt, TaskBench } from './task-process.ts'

const seed = Number(process.env['TEST_SEED'] ?? Math.floor(Math.random() * 1e9))
const connect = ({ url }: Server) => new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 })

test(`a batch of 1,000 lines with 10 bad ones, its server killed again and again (TEST_SEED=${seed})`, async (t) => {
  const random = seedRandom(seed)
  await using bench = await TaskBench.open()
  await using model = await FakeUpstream.start(bench.counting(answer))
  const config = { upstreams: instanceAt(model.url) }
  let server = await bench.start(config)
  let client = connect(server)
  const input = await uploadLines(client, thousandLines)
  const { id } = await client.batches.create({
    input_file_id: input.id,
    endpoint,
    completion_window: '24h',
  })
  // At once after the acknowledgement, while lines become tasks, in the middle, and about the last of them.
  const moments = [0, Math.floor(random() * 100), 200 + Math.floor(random() * 600), goodNumbers.length]
  for (const moment of moments) {
    await model.until(({ requests }) => requests.length >= moment)
    for (let turns = Math.floor(random() * 30); turns > 0; turns -= 1) {
      await new Promise((resolve) => setImmediate(resolve))
    }
    await server.kill()
    server = await bench.start(config)
    client = connect(server)
  }
  await eventually(
    'the batch is over',
    async () => (await client.batches.retrieve(id)).status === 'completed',
  )

  const done = await client.batches.retrieve(id)
  assert.deepEqual(done.request_counts, { total: 1000, completed: 990, failed: 10 })
  const output = await downloadRows(client, done.output_file_id)
  assert.deepEqual(
    output.map((row) => [row.custom_id, row.response?.body.choices[0]?.message.content]),
    goodNumbers.map((n) => [`line-${n}`, `re: Number ${n}`]),
  )
  const errors = await downloadRows(client, done.error_file_id)
  assert.deepEqual(
    errors.map(({ error }) => error?.line),
    badNumbers,
  )
  const files = await client.files.list({ purpose: 'batch_output' })
  assert.deepEqual(new Set(files.data.map((file) => file.id)), new Set([done.output_file_id, done.error_file_id])) // prettier-ignore
  const counts = await bench.counts(server)
  assert.equal(counts.succeeded, goodNumbers.length, JSON.stringify(counts))
  const repeated = model.requests.length - goodNumbers.length
  // What ran as its server died, and nothing else, was run again.
  assert.ok(repeated <= 16 * moments.length, `${repeated} lines were run again`)
  assert.equal(bench.executions.size, goodNumbers.length)
  t.diagnostic(`killed at ${moments.join(', ')} calls; ${repeated} repeated`)
})
