import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import type { Store } from '../../../src/storage/store.ts'
import { BatchBench, lineOf, succeed, type Behaviour } from './batch-bench.ts'

class Crash extends Error {}

const writes: Record<string, readonly string[]> = {
  tasks: ['submit', 'cancel'],
  documents: ['insert', 'update', 'remove'],
  blobs: ['append', 'remove'],
}

/** The store with every call in the hands of `around`, which is told the number of the write, or null for a read. */
function intercept(
  store: Store,
  around: (write: number | null, call: () => Promise<unknown>) => Promise<unknown>,
): Store {
  let count = 0
  const wrap = ([name, part]: [string, object]): [string, object] => {
    const get = (target: object, method: string) => {
      const call = (target as Record<string, (...args: unknown[]) => Promise<unknown>>)[method]
      return (...args: unknown[]) => {
        const isWrite = writes[name]?.includes(method) ?? false
        if (isWrite) count += 1
        return around(isWrite ? count : null, async () => call?.(...args))
      }
    }
    return [name, new Proxy(part, { get })]
  }
  const { tasks, documents, blobs, cache, outbox, maintenance } = store
  const parts = Object.entries({ tasks, documents, blobs, cache, outbox, maintenance }).map(wrap)
  return { ...Object.fromEntries(parts), onWake: () => () => {} } as unknown as Store
}

/**
 * The store as a process sees it that dies at its n-th write: just before it, or after it and before it has heard of
 * it. Nothing gets through after that.
 */
function dieAt(store: Store, at: number, side: 'before' | 'after'): { store: Store; isDead: () => boolean } {
  let dead = false
  const mortal = intercept(store, async (write, call) => {
    if (dead) throw new Crash()
    if (write !== at) return call()
    dead = true
    if (side === 'after') await call()
    throw new Crash()
  })
  return { store: mortal, isDead: () => dead }
}

const behaviour: Behaviour = (task, body) =>
  body['n'] === 4 ? { kind: 'dead', error: { code: 'upstream_failed', message: 'No.' } } : succeed(task, body)

const input = [
  lineOf(1),
  'bad',
  lineOf(3),
  lineOf(4),
  lineOf(5, { body: { model: 'nobody', messages: [{ role: 'user', content: 'Hi' }] } }),
  lineOf(6),
  lineOf(7, { custom_id: 'line-1' }),
  lineOf(8),
].join('\n')

const expected = { output: [1, 3, 6, 8], errors: [2, 4, 5, 7] }
const options = { piece: { lines: 2, bytes: 100_000 }, liveTasksMax: 3, workersMax: 1 }

const lineNumber = ({ id }: { id: string }) => Number(id.slice(id.lastIndexOf('_') + 1))

async function checkWhole(bench: BatchBench, tenant: string, id: string, why: string): Promise<void> {
  const { output, errors } = await bench.results(tenant, id)
  assert.deepEqual({ output: output.map(lineNumber), errors: errors.map(lineNumber) }, expected, why)
  const tasks = await bench.store.tasks.list({ tenant, parent: id, limit: 100 })
  assert.equal(tasks.length, 5, `${why}: a task for each line that became one`)
  const { files } = await bench
    .files()
    .list({ tenant, purpose: null, after: null, ascending: true, limit: 100 })
  assert.equal(files.length, 3, `${why}: the input, the output, the errors`)
  const { batch, counts } = await bench.batches().get(tenant, id)
  assert.deepEqual([batch.status, counts], ['completed', { total: 8, completed: 4, failed: 4 }], why)
  const known = new Set(files.map((file) => file.id))
  const own = bench.blobIds().filter((blob) => !bench.seen.has(blob))
  assert.deepEqual(
    own.filter((blob) => !known.has(blob)),
    [],
    `${why}: nothing is left behind`,
  )
  for (const blob of own) bench.seen.add(blob)
}

void test('a process that dies at any write leaves a batch that another one finishes', async () => {
  await using bench = await BatchBench.open()
  let crashes = 0
  for (const side of ['before', 'after'] as const) {
    for (let at = 1; ; at += 1) {
      const tenant = `${side}-${at}`
      const id = await bench.create(tenant, input)
      const mortal = dieAt(bench.store, at, side)
      const first = bench.runner(options, mortal.store)
      for (let turn = 0; turn < 12 && !mortal.isDead(); turn += 1) {
        await first.look().catch((error: unknown) => assert.ok(error instanceof Crash))
        if (!mortal.isDead()) await bench.work(behaviour, 2)
      }
      bench.clock.advance(31_000)
      await bench.drive(tenant, id, bench.runner(options), behaviour)
      await checkWhole(bench, tenant, id, `crash ${side} write ${at}`)
      if (!mortal.isDead()) break
      crashes += 1
    }
  }
  assert.ok(crashes > 40, `only ${crashes} crashes`)
})

void test('two processes that both take themselves for the owner leave one whole batch', async () => {
  await using bench = await BatchBench.open()
  for (let at = 1; at <= 12; at += 1) {
    const tenant = `t${at}`
    const id = await bench.create(tenant, input)
    const gate = Promise.withResolvers<void>()
    const reached = Promise.withResolvers<void>()
    // Stands still in the middle of a write, past its lease, and goes on when the other has done all.
    const slow = intercept(bench.store, async (write, call) => {
      if (write === at) {
        reached.resolve()
        await gate.promise
      }
      return call()
    })
    const first = bench.runner(options, slow)
    let isOver = false
    const looking = (async () => {
      for (let turn = 0; turn < 12 && !isOver; turn += 1) {
        await first.look()
        await bench.work(behaviour, 2)
      }
    })()
    await reached.promise
    bench.clock.advance(31_000)
    await bench.drive(tenant, id, bench.runner(options), behaviour)
    isOver = true
    gate.resolve()
    await looking
    const { output, errors } = await bench.results(tenant, id)
    assert.deepEqual(
      { output: output.map(lineNumber), errors: errors.map(lineNumber) },
      expected,
      `write ${at}`,
    )
    const tasks = await bench.store.tasks.list({ tenant, parent: id, limit: 100 })
    assert.equal(tasks.length, 5, `write ${at}`)
  }
})
