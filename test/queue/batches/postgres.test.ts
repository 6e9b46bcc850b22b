import { strict as assert } from 'node:assert'
import { after, before, test } from 'node:test'
import { createDatabase, makeStore, type TestDatabase } from '../../helpers/postgres.ts'
import { serviceSkip } from '../../helpers/services.ts'
import { BatchBench, lineOf, succeed, type Behaviour } from './batch-bench.ts'

const skip = await serviceSkip('postgresql')
let database: TestDatabase

before(async () => {
  if (!skip) database = await createDatabase()
})
after(async () => {
  if (!skip) await database.drop()
})

const behaviour: Behaviour = (task, body) =>
  (body['n'] as number) % 10 === 3
    ? { kind: 'dead', error: { code: 'upstream_failed', message: 'No.' } }
    : succeed(task, body)

void test(
  'processes on one PostgreSQL share batches: every line once, whoever falls silent',
  { skip },
  async () => {
    await using bench = await BatchBench.open(makeStore(database.url))
    const other = makeStore(database.url)
    await other.start()
    try {
      const options = { piece: { lines: 5, bytes: 100_000 }, liveTasksMax: 12 }
      const lines = Array.from({ length: 40 }, (_, n) => (n % 10 === 7 ? `bad ${n}` : lineOf(n)))
      const ids: string[] = []
      for (let n = 0; n < 6; n += 1) ids.push(await bench.create('t', lines.join('\n')))
      const [one, two] = [bench.runner(options), bench.runner(options, other)]
      for (let turn = 0; turn < 3; turn += 1) {
        await Promise.all([one.look(), two.look()])
        await bench.work(behaviour)
      }
      bench.clock.advance(31_000)
      // The first comes back in the middle of what the second has taken over.
      await Promise.all([one.look(), two.look(), bench.work(behaviour)])
      for (const id of ids) await bench.drive('t', id, two, behaviour)
      for (const id of ids) {
        const { output, errors } = await bench.results('t', id)
        assert.equal(output.length, 32)
        assert.equal(errors.length, 8)
        const lineNumbers = [...output, ...errors].map((row) =>
          Number(row.id.slice(row.id.lastIndexOf('_') + 1)),
        )
        assert.deepEqual(new Set(lineNumbers).size, 40)
        assert.equal((await bench.store.tasks.list({ tenant: 't', parent: id, limit: 100 })).length, 36)
        const { batch } = await bench.batches().get('t', id)
        assert.equal(batch.status, 'completed')
      }
      const blobs = await database.query<{ id: string }>('SELECT DISTINCT id FROM autoglm.blobs')
      assert.equal(blobs.length, 18, 'three files a batch, and nothing else')
    } finally {
      await other.stop()
    }
  },
)

void test('a batch is cancelled by one process while another feeds it', { skip }, async () => {
  await using bench = await BatchBench.open(makeStore(database.url))
  const other = makeStore(database.url)
  await other.start()
  try {
    const id = await bench.create('t', Array.from({ length: 60 }, (_, n) => lineOf(n)).join('\n'))
    const runner = bench.runner({ piece: { lines: 2, bytes: 100_000 }, liveTasksMax: 10 }, other)
    await runner.look()
    assert.equal(await bench.work(succeed, 4), 4)
    await Promise.all([runner.look(), bench.batches().cancel('t', id)])
    await bench.drive('t', id, runner)
    const { batch, counts } = await bench.batches().get('t', id)
    assert.equal(batch.status, 'cancelled')
    assert.deepEqual(counts, { total: 60, completed: 4, failed: 56 })
    const { queued, running } = await bench.store.tasks.count('t', id)
    assert.equal(queued + running, 0)
  } finally {
    await other.stop()
  }
})
