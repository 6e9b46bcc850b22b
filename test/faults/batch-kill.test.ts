import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import OpenAI, { toFile } from 'openai'
import { seedRandom } from '../../bench/simulation/random.ts'
import { eventually, type Server } from '../helpers/server.ts'
import { FakeUpstream } from '../helpers/upstream.ts'
import { answer, instanceAt, TaskBench } from './task-process.ts'

const seed = Number(process.env['TEST_SEED'] ?? Math.floor(Math.random() * 1e9))
const endpoint = '/v1/chat/completions'

type Row = {
  custom_id: string | null
  response: { body: { choices: { message: { content: string } }[] } } | null
  error: { line: number } | null
}

const line = (n: number, more: object = {}) =>
  JSON.stringify({
    custom_id: `line-${n}`,
    method: 'POST',
    url: endpoint,
    body: { model: 'm', messages: [{ role: 'user', content: `Number ${n}` }] },
    ...more,
  })

const bad: Readonly<Record<number, string>> = {
  1: '{"custom_id": "cut off"',
  123: 'not JSON at all',
  200: line(200, { method: 'GET' }),
  300: line(300, { url: '/v1/embeddings' }),
  400: line(400, { custom_id: undefined }),
  500: line(500, { custom_id: 'line-2' }),
  600: line(600, { body: { model: 'm' } }),
  700: line(700, { body: { model: 'nobody', messages: [{ role: 'user', content: 'Hi' }] } }),
  800: line(800, { body: 'text' }),
  1000: line(1000, { body: { model: 'm', messages: [{ role: 'user', content: 'Hi' }], stream: true } }),
}
const lines = Array.from({ length: 1000 }, (_, n) => bad[n + 1] ?? line(n + 1))
const goodLines = lines.flatMap((_, n) => (bad[n + 1] === undefined ? [n + 1] : []))

const connect = ({ url }: Server) => new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 })

async function download(client: OpenAI, id: string | undefined): Promise<Row[]> {
  const text = await (await client.files.content(id ?? '')).text()
  assert.ok(text.endsWith('\n'), 'the last line is not whole')
  return text
    .slice(0, -1)
    .split('\n')
    .map((row) => JSON.parse(row) as Row)
}

test(`a batch of 1,000 lines with 10 bad ones, its server killed again and again (TEST_SEED=${seed})`, async (t) => {
  const random = seedRandom(seed)
  await using bench = await TaskBench.open()
  await using model = await FakeUpstream.start(bench.counting(answer))
  const config = { upstreams: instanceAt(model.url) }
  let server = await bench.start(config)
  let client = connect(server)
  const input = await client.files.create({
    file: await toFile(Buffer.from(lines.join('\n')), 'lines.jsonl'),
    purpose: 'batch',
  })
  const { id } = await client.batches.create({
    input_file_id: input.id,
    endpoint,
    completion_window: '24h',
  })
  // At once after the acknowledgement, while lines become tasks, in the middle, and about the last of them.
  const moments = [0, Math.floor(random() * 100), 200 + Math.floor(random() * 600), goodLines.length]
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
  const output = await download(client, done.output_file_id)
  assert.deepEqual(
    output.map((row) => [row.custom_id, row.response?.body.choices[0]?.message.content]),
    goodLines.map((n) => [`line-${n}`, `re: Number ${n}`]),
  )
  const errors = await download(client, done.error_file_id)
  assert.deepEqual(
    errors.map(({ error }) => error?.line),
    Object.keys(bad).map(Number),
  )
  const files = await client.files.list({ purpose: 'batch_output' })
  assert.deepEqual(new Set(files.data.map((file) => file.id)), new Set([done.output_file_id, done.error_file_id])) // prettier-ignore
  const counts = await bench.counts(server)
  assert.equal(counts.succeeded, goodLines.length, JSON.stringify(counts))
  const repeated = model.requests.length - goodLines.length
  // What ran as its server died, and nothing else, was run again.
  assert.ok(repeated <= 16 * moments.length, `${repeated} lines were run again`)
  assert.equal(bench.executions.size, goodLines.length)
  t.diagnostic(`killed at ${moments.join(', ')} calls; ${repeated} repeated`)
})
