import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { systemClock } from '../src/core/clock.ts'
import { Context } from '../src/storage/sqlite/context.ts'
import { Database, migrate } from '../src/storage/sqlite/database.ts'
import { SqliteStore } from '../src/storage/sqlite/sqlite-store.ts'
import { submit } from '../src/storage/sqlite/submit.ts'
import type { Store } from '../src/storage/store.ts'
import type { ClaimRequest, NewTask, QueueLimits } from '../src/storage/task-store.ts'
import { makeNoOpTask } from './no-op-task.ts'
import type { Finding } from './finding.ts'
import { quantile } from './statistics.ts'
import { formatRatio, printTable } from './table.ts'

/**
 * The embedded store through its port: durable submissions from many producers beside one that commits each by itself,
 * claims and settles, and how long a claim takes as the queue grows.
 */
export async function benchStorage({ quick }: { quick: boolean }): Promise<Finding[]> {
  return [
    ...(await benchSubmissions(quick)),
    ...(await benchClaimAndSettle(quick)),
    ...(await benchClaimLatency(quick)),
  ]
}

const limits: QueueLimits = { tenantTasksMax: 1e9, tenantBytesMax: 1e12, tasksMax: 1e9, bytesMax: 1e12 }
const payload = Buffer.from(
  JSON.stringify({
    work: {
      endpoint: '/v1/chat/completions',
      body: { model: 'm', messages: [{ role: 'user', content: 'Say something about the sea. '.repeat(12) }] },
    },
    webhook: null,
  }),
)

const makeTask = (more: Partial<NewTask> = {}): NewTask => makeNoOpTask({ payload, ...more })

/** A new database, and an end of it. In the folder for temporary files: its disk is the one that is measured. */
async function withFolder<T>(run: (path: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(process.env['AUTOGLM_BENCH_DIR'] ?? tmpdir(), 'autoglm-bench-'))
  try {
    return await run(join(folder, 'autoglm.db'))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function withStore<T>(run: (store: Store) => Promise<T>): Promise<T> {
  return withFolder(async (path) => {
    const store = new SqliteStore({ path, clock: systemClock, log: pino({ level: 'silent' }) })
    await store.start()
    try {
      return await run(store)
    } finally {
      await store.stop()
    }
  })
}

/** The same rows, one transaction each, in a plain loop and without a thread between. */
const measureUnbatched = (durationMs: number): Promise<number> =>
  withFolder(async (path) => {
    const database = new Database(path)
    migrate(database)
    const context = new Context(database)
    const startMs = performance.now()
    let tasks = 0
    while (performance.now() - startMs < durationMs) {
      context.transact(() => submit(context, [{ ...makeTask(), metadata: null }], limits))
      context.wakes.take()
      tasks += 1
    }
    const rate = (tasks / (performance.now() - startMs)) * 1000
    database.close()
    return rate
  })

const measureProducers = (producers: number, durationMs: number): Promise<number> =>
  withStore(async (store) => {
    let tasks = 0
    const startMs = performance.now()
    const produce = async () => {
      while (performance.now() - startMs < durationMs) {
        const [outcome] = await store.tasks.submit([makeTask()], limits)
        if (outcome?.kind !== 'created') throw new Error(`a submission was answered by ${outcome?.kind}`)
        tasks += 1
      }
    }
    await Promise.all(Array.from({ length: producers }, produce))
    return (tasks / (performance.now() - startMs)) * 1000
  })

async function benchSubmissions(quick: boolean): Promise<Finding[]> {
  const durationMs = quick ? 1000 : 4000
  const unbatched = await measureUnbatched(durationMs)
  const rates = new Map<number, number>()
  for (const producers of [1, 8, 64]) rates.set(producers, await measureProducers(producers, durationMs))
  console.log(`Durable submissions, SQLite with synchronous=FULL, ${payload.length} bytes each`)
  printTable(
    ['producers', 'tasks/s', 'unbatched'],
    [
      ['one, unbatched', formatCount(unbatched), '1.00×'],
      ...[...rates].map(([producers, rate]) => [
        `${producers} through the port`,
        formatCount(rate),
        formatRatio(rate / unbatched),
      ]),
    ],
  )
  const rate = rates.get(64)!
  return [
    {
      what: 'durable submissions, 64 producers',
      figure: `${formatCount(rate)}/s`,
      reference: `${formatRatio(rate / unbatched)} one unbatched (${formatCount(unbatched)}/s)`,
      target: 'at least 40×',
      met: rate >= 40 * unbatched,
    },
  ]
}

const claimRequest = (limit: number): ClaimRequest => ({
  model: 'm',
  owner: 'bench',
  nowMs: systemClock.wallMs(),
  leaseMs: 30_000,
  limit,
  agedLimit: 1,
  ageingMs: 60_000,
})

async function fill(store: Store, count: number, more: (index: number) => Partial<NewTask>): Promise<void> {
  const chunk = 1000
  for (let start = 0; start < count; start += chunk) {
    const tasks = Array.from({ length: Math.min(chunk, count - start) }, (_, index) =>
      makeTask(more(start + index)),
    )
    await store.tasks.submit(tasks, limits)
  }
}

const result = Buffer.from('{"object":"chat.completion"}')
const settlementOf = (id: string, attempt: number) => ({
  id,
  attempt,
  nowMs: systemClock.wallMs(),
  instance: 'local-1',
  outcome: {
    kind: 'succeeded' as const,
    result,
    usage: { promptTokens: 10, completionTokens: 5, cachedTokens: 0 },
  },
})

async function benchClaimAndSettle(quick: boolean): Promise<Finding[]> {
  const count = quick ? 20_000 : 100_000
  const rate = await withStore(async (store) => {
    await fill(store, count, (index) => ({ tenant: `t${index % 50}` }))
    let done = 0
    const startMs = performance.now()
    const work = async () => {
      for (;;) {
        const tasks = await store.tasks.claim(claimRequest(64))
        if (tasks.length === 0) return
        await store.tasks.settle(tasks.map(({ task }) => settlementOf(task.id, task.attempt)))
        done += tasks.length
      }
    }
    await Promise.all(Array.from({ length: 4 }, work))
    if (done !== count) throw new Error(`${done} of ${count} tasks were settled`)
    return (count / (performance.now() - startMs)) * 1000
  })
  console.log(`\nClaim and settle, 64 at a time by 4 workers: ${formatCount(rate)} tasks/s`)
  return [
    {
      what: 'claim and settle, SQLite',
      figure: `${formatCount(rate)}/s`,
      reference: '',
      target: 'at least 20,000/s',
      met: rate >= 20_000,
    },
  ]
}

async function benchClaimLatency(quick: boolean): Promise<Finding[]> {
  const sizes = quick ? [0, 10_000, 100_000] : [0, 100_000, 1_000_000]
  const delayed = quick ? 30_000 : 300_000
  const tenant = (index: number) => `tenant-${index % 1000}`
  const rows: { size: number; p50: number; p99: number }[] = []
  await withStore(async (store) => {
    let waiting = 0
    for (const size of sizes) {
      if (size > 0 && rows.length === 1) {
        const runAtMs = systemClock.wallMs() + 1e9
        await fill(store, delayed, (index) => ({ tenant: tenant(index), runAtMs }))
      }
      await fill(store, size - waiting, (index) => ({ tenant: tenant(index) }))
      waiting = size
      rows.push({ size, ...(await measureClaims(store)) })
    }
  })
  console.log(
    `\nOne claim of one task, ${formatCount(delayed)} delayed beside those that wait, 1,000 tenants`,
  )
  printTable(
    ['waiting', 'p50', '', 'p99'],
    rows.map(({ size, p50, p99 }) => [
      formatCount(size),
      `${(p50 * 1000).toFixed(0)} µs`,
      formatRatio(p50 / rows[0]!.p50),
      `${(p99 * 1000).toFixed(0)} µs`,
    ]),
  )
  const [first, last] = [rows[0]!, rows.at(-1)!]
  return [
    {
      what: `claim latency, ${formatCount(last.size)} waiting`,
      figure: `${(last.p50 * 1000).toFixed(0)} µs`,
      reference: `${formatRatio(last.p50 / first.p50)} empty (${(first.p50 * 1000).toFixed(0)} µs)`,
      target: 'at most 1.5×',
      met: last.p50 <= 1.5 * first.p50,
    },
  ]
}

/** Each claim finds a task: at "0 waiting" the one that was just submitted. The number that waits stays the same. */
async function measureClaims(store: Store): Promise<{ p50: number; p99: number }> {
  const timesMs: number[] = []
  for (let round = 0; round < 1000; round += 1) {
    await store.tasks.submit([makeTask({ tenant: `tenant-${round}` })], limits)
    const startMs = performance.now()
    const [claimed] = await store.tasks.claim(claimRequest(1))
    if (round >= 200) timesMs.push(performance.now() - startMs)
    if (!claimed) throw new Error('nothing was there to claim')
    await store.tasks.settle([settlementOf(claimed.task.id, claimed.task.attempt)])
  }
  return { p50: quantile(timesMs, 0.5), p99: quantile(timesMs, 0.99) }
}

const formatCount = (count: number) => Math.round(count).toLocaleString('en')

if (import.meta.main) {
  const { printFindings } = await import('./finding.ts')
  printFindings(await benchStorage({ quick: process.argv.includes('--quick') }))
}
