import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { systemClock } from '../src/core/clock.ts'
import { AgedTurns, estimateCost } from '../src/queue/order.ts'
import { bands, type CallWork } from '../src/queue/task.ts'
import { SqliteStore } from '../src/storage/sqlite/sqlite-store.ts'
import type { Store } from '../src/storage/store.ts'
import type { NewTask, TaskRow } from '../src/storage/task-store.ts'
import { makeTaskId } from '../src/storage/task-id.ts'
import type { Finding } from './finding.ts'

/** In what order tasks leave the line: a real store, production's costs and turns, times that are said. */

const startMs = Date.UTC(2026, 0, 1)
const limits = { tenantTasksMax: 1e6, tenantBytesMax: 1e12, tasksMax: 1e6, bytesMax: 1e12 }
const ageingMs = 60_000
/** One claim each so often in the test of ageing. */
const claimMs = 100

export async function benchFairness(): Promise<Finding[]> {
  return [await withStore(measureFairness), await withStore(measureAgeing)]
}

async function measureFairness(store: Store): Promise<Finding> {
  await submit(store, { tenant: 'A', band: bands.normal, count: 10_000 })
  await submit(store, { tenant: 'B', band: bands.normal, count: 10 })
  const places: number[] = []
  const turns = new AgedTurns()
  for (let place = 1; places.length < 10 && place <= 1_000; place += 1) {
    const task = await claimOne(store, turns, startMs)
    if (task?.tenant === 'B') places.push(place)
  }
  const last = places.at(-1) ?? Infinity
  return {
    what: "fairness, the last of B's ten tasks behind A's 10,000",
    figure: `starts as number ${last}`,
    reference: `B's places ${places.join(', ')}`,
    target: 'among the first 25',
    met: places.length === 10 && last <= 25,
  }
}

async function measureAgeing(store: Store): Promise<Finding> {
  await submit(store, { tenant: 'A', band: bands.batch, count: 1 })
  const turns = new AgedTurns()
  let nowMs = startMs
  let startedMs = Infinity
  // Urgent work comes as fast as it goes: there is never a claim without some.
  for (; nowMs < startMs + 10 * ageingMs && startedMs === Infinity; nowMs += claimMs) {
    await submit(store, { tenant: 'B', band: bands.urgent, count: 2, nowMs })
    const task = await claimOne(store, turns, nowMs)
    if (task?.band === bands.batch) startedMs = nowMs - startMs
  }
  const boundMs = ageingMs + 4 * claimMs
  return {
    what: 'ageing, a `batch` task behind endless `urgent` ones',
    figure: `starts after ${(startedMs / 1000).toFixed(1)} s`,
    reference: `ageing after ${ageingMs / 1000} s, a claim every ${claimMs} ms`,
    target: `within ${(boundMs / 1000).toFixed(1)} s`,
    met: startedMs <= boundMs,
  }
}

async function submit(
  store: Store,
  { tenant, band, count, nowMs = startMs }: { tenant: string; band: number; count: number; nowMs?: number },
): Promise<void> {
  const work: CallWork = {
    endpoint: '/v1/chat/completions',
    body: { model: 'm', messages: [{ role: 'user', content: 'x'.repeat(400) }], max_tokens: 100 },
  }
  const payload = Buffer.from(JSON.stringify({ work, webhook: null }))
  const cost = estimateCost(work, 1)
  const tasks = Array.from({ length: count }, (): NewTask => {
    return {
      ...{ id: makeTaskId('task', nowMs), tenant, endpoint: work.endpoint, model: 'm', band, cost, payload },
      ...{
        createdAtMs: nowMs,
        runAtMs: null,
        deadlineMs: null,
        attemptsMax: 3,
        parent: null,
        position: null,
      },
      ...{ idempotencyKey: null, fingerprint: null, metadata: {}, notify: false },
    }
  })
  for (let from = 0; from < count; from += 1_000) {
    await store.tasks.submit(tasks.slice(from, from + 1_000), limits)
  }
}

async function claimOne(store: Store, turns: AgedTurns, nowMs: number): Promise<TaskRow | null> {
  const agedLimit = turns.slots(1)
  const request = { model: 'm', owner: 'bench', nowMs, leaseMs: 60_000, limit: 1, agedLimit, ageingMs }
  const [claimed] = await store.tasks.claim(request)
  turns.note(claimed ? 1 : 0, agedLimit)
  if (!claimed) return null
  const { id, attempt } = claimed.task
  await store.tasks.settle([
    {
      id,
      attempt,
      nowMs,
      instance: null,
      outcome: { kind: 'succeeded', result: Buffer.from('{}'), usage: null },
    },
  ])
  return claimed.task
}

async function withStore(run: (store: Store) => Promise<Finding>): Promise<Finding> {
  const folder = await mkdtemp(join(tmpdir(), 'autoglm-bench-'))
  const log = pino({ level: 'silent' })
  const store = new SqliteStore({ path: join(folder, 'autoglm.db'), clock: systemClock, log })
  await store.start()
  try {
    return await run(store)
  } finally {
    await store.stop()
    await rm(folder, { recursive: true, force: true })
  }
}

if (import.meta.main) console.log(await benchFairness())
