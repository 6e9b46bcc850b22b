import { strict as assert } from 'node:assert'
import { after, describe, it } from 'node:test'
import { systemClock } from '../../src/core/clock.ts'
import { StoreUnavailable, type Store } from '../../src/storage/store.ts'
import type { AttemptOutcome, NewTask } from '../../src/storage/task-store.ts'
import { makeTaskId } from '../../src/storage/task-id.ts'
import { binaries, Cluster } from '../helpers/cluster.ts'
import { HalfOpenProxy } from '../helpers/half-open-proxy.ts'
import { createDatabase, makeStore, type TestDatabase } from '../helpers/postgres.ts'
import { eventually } from '../helpers/server.ts'
import { serviceSkip } from '../helpers/services.ts'
import { History, type Verdict } from './history.ts'

const seed = Number(process.env['TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const limits = { tenantTasksMax: 1e9, tenantBytesMax: 1e12, tasksMax: 1e9, bytesMax: 1e12 }
const leaseMs = 500

/** Mulberry32. */
function seedRandom(start: number): () => number {
  let state = start
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Producers and workers on a store, with everything noted; they go on through failures until told to end. */
class Load {
  readonly history = new History()
  /** Calls that were refused with StoreUnavailable. */
  refused = 0
  /** What no call may throw. */
  readonly strange: unknown[] = []
  readonly #stores: readonly Store[]
  readonly #random = seedRandom(seed)
  #submitting = true
  #working = true
  readonly #producers: Promise<void>[] = []
  readonly #workers: Promise<void>[] = []

  constructor(stores: readonly Store[]) {
    this.#stores = stores
  }

  start(): void {
    const isSubmitting = () => this.#submitting
    const isWorking = () => this.#working
    for (const [index, store] of this.#stores.entries()) {
      for (let n = 0; n < 4; n += 1) {
        this.#producers.push(this.#loop(isSubmitting, () => this.#submit(store)))
      }
      for (let n = 0; n < 3; n += 1) {
        this.#workers.push(this.#loop(isWorking, () => this.#work(store, `worker-${index}-${n}`)))
      }
      this.#workers.push(this.#loop(isWorking, () => this.#rescue(store)))
    }
  }

  /** No more submissions; all that is there is worked off. */
  async finish(tenants: readonly string[]): Promise<void> {
    this.#submitting = false
    await Promise.all(this.#producers)
    const [store] = this.#stores
    const isDone = async () => {
      for (const tenant of tenants) {
        const counts = await store!.tasks.count(tenant).catch(() => null)
        if (!counts || counts.queued + counts.running + counts.delayed > 0) return false
      }
      return true
    }
    await eventually('all tasks have ended', isDone, 60_000)
    this.#working = false
    await Promise.all(this.#workers)
  }

  async #loop(goesOn: () => boolean, step: () => Promise<void>): Promise<void> {
    while (goesOn()) {
      try {
        await step()
      } catch (error) {
        if (error instanceof StoreUnavailable) this.refused += 1
        else this.strange.push(error)
        await systemClock.sleep(20)
      }
    }
  }

  async #submit(store: Store): Promise<void> {
    const tasks = Array.from({ length: 1 + Math.floor(this.#random() * 4) }, () => this.#makeTask())
    this.history.submitting(tasks)
    this.history.acknowledged(await store.tasks.submit(tasks, limits))
    await systemClock.sleep(this.#random() * 5)
  }

  async #work(store: Store, owner: string): Promise<void> {
    const nowMs = systemClock.wallMs()
    const claimed = await store.tasks.claim({
      model: 'm',
      owner,
      nowMs,
      leaseMs,
      limit: 8,
      agedLimit: 1,
      ageingMs: 100,
    })
    if (claimed.length === 0) await systemClock.sleep(10)
    for (const { task } of claimed) this.history.executing(task.id)
    await systemClock.sleep(this.#random() * 10)
    await Promise.all(
      claimed.map(async ({ task: { id, attempt } }) => {
        const outcome = this.#drawOutcome(attempt)
        const settlement = { id, attempt, nowMs: systemClock.wallMs(), instance: owner, outcome }
        const [answer] = await store.tasks.settle([settlement])
        this.history.settled(settlement, answer!)
      }),
    )
  }

  async #rescue(store: Store): Promise<void> {
    await systemClock.sleep(50)
    await store.tasks.promote(systemClock.wallMs(), 100)
    await store.tasks.rescue(systemClock.wallMs(), 100)
  }

  #drawOutcome(attempt: number): AttemptOutcome {
    const error = { code: 'upstream_failed', message: 'The instance broke off.' }
    const draw = this.#random()
    if (draw < 0.1 && attempt < 4) return { kind: 'retry', error, runAtMs: systemClock.wallMs() + 20 }
    if (draw < 0.15 && attempt < 4) return { kind: 'released' }
    if (draw < 0.2) return { kind: 'dead', error }
    return { kind: 'succeeded', result: Buffer.from(`{"attempt":${attempt}}`), usage: null }
  }

  #makeTask(): NewTask {
    const nowMs = systemClock.wallMs()
    return {
      id: makeTaskId('task', nowMs),
      tenant: `tenant-${Math.floor(this.#random() * 5)}`,
      endpoint: '/v1/chat/completions',
      model: 'm',
      band: this.#random() < 0.5 ? 50 : 25,
      cost: 10,
      createdAtMs: nowMs,
      runAtMs: null,
      deadlineMs: null,
      attemptsMax: 100,
      parent: null,
      position: null,
      idempotencyKey: null,
      fingerprint: null,
      metadata: {},
      notify: this.#random() < 0.2,
      payload: Buffer.from('{}'),
    }
  }
}

const tenants = Array.from({ length: 5 }, (_, index) => `tenant-${index}`)

async function judge(load: Load, store: Store): Promise<Verdict> {
  await load.finish(tenants)
  assert.deepEqual(load.strange, [], `TEST_SEED=${seed}: only StoreUnavailable may be thrown`)
  const verdict = await load.history.check(store, { allEnded: true })
  assert.deepEqual(verdict.violations, [], `TEST_SEED=${seed}`)
  const { submitted, acknowledged, unacknowledgedKept, duplicates } = verdict
  console.log(
    `TEST_SEED=${seed}: ${submitted} submitted, ${acknowledged} acknowledged, ${unacknowledgedKept} kept without, ` +
      `${duplicates} executions repeated, ${load.refused} calls refused`,
  )
  return verdict
}

const skip = await serviceSkip('postgresql')

describe('PostgreSQL under faults', { skip, timeout: 240_000 }, () => {
  const databases: TestDatabase[] = []
  const openDatabase = async () => {
    const database = await createDatabase()
    databases.push(database)
    return database
  }
  after(async () => {
    for (const database of databases) await database.drop()
  })

  it('loses nothing when its connections are terminated in the middle of commits', async () => {
    const database = await openDatabase()
    const stores = [makeStore(database.url), makeStore(database.url)]
    for (const store of stores) await store.start()
    const load = new Load(stores)
    load.start()
    const random = seedRandom(seed + 1)
    let killed = 0
    for (let round = 0; round < 150 || load.history.acknowledgedCount < 500; round += 1) {
      // Preferably those that are committing at this moment.
      const rows = await database.query<{ done: boolean }>(
        `SELECT pg_terminate_backend(pid) AS done FROM (
           SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
             AND application_name = 'autoglm' AND state <> 'idle'
           ORDER BY (wait_event IN ('WALSync', 'WALWrite')) DESC NULLS LAST, random() LIMIT $1) AS p`,
        [1 + Math.floor(random() * 2)],
      )
      killed += rows.length
      await systemClock.sleep(random() * 80)
    }
    assert(killed > 50, `only ${killed} connections were terminated`)
    await judge(load, stores[0]!)
    for (const store of stores) await store.stop()
  })

  it('answers in time over half-open connections, and recovers by itself', async () => {
    const database = await openDatabase()
    const direct = new URL(database.url)
    const proxy = await HalfOpenProxy.start({ host: direct.hostname, port: Number(direct.port) || 5432 })
    const url = new URL(database.url)
    url.host = `127.0.0.1:${proxy.port}`
    const store = makeStore(url.href, {
      limits: { silenceMs: 1_000, statementTimeoutMs: 800, retryForMs: 1_500, connectTimeoutMs: 1_000 },
    })
    await store.start()
    const load = new Load([store])
    load.start()
    for (let round = 0; round < 3; round += 1) {
      const before = load.history.acknowledgedCount
      await eventually('submissions pass', () => load.history.acknowledgedCount > before + 20)
      proxy.silence()
      const startMs = performance.now()
      await assert.rejects(store.tasks.find('task_x'), StoreUnavailable)
      const waitedMs = performance.now() - startMs
      assert(waitedMs < 8_000, `a call over a silent connection waited ${waitedMs} ms`)
      proxy.heal()
      await eventually('a call succeeds', () =>
        store.tasks.find('task_x').then(
          () => true,
          () => false,
        ),
      )
    }
    await judge(load, store)
    await store.stop()
    await proxy.stop()
  })

  it(
    'loses nothing when the server is killed and started again under load',
    { skip: binaries === null && 'no initdb under /usr/lib/postgresql' },
    async () => {
      const cluster = await Cluster.create(binaries!)
      try {
        const stores = [makeStore(cluster.url), makeStore(cluster.url)]
        for (const store of stores) await store.start()
        const load = new Load(stores)
        load.start()
        for (let round = 0; round < 3; round += 1) {
          const before = load.history.acknowledgedCount
          await eventually('submissions pass', () => load.history.acknowledgedCount > before + 100)
          cluster.kill()
          await systemClock.sleep(300)
          await cluster.start()
        }
        await judge(load, stores[0]!)
        const heard: string[] = []
        stores[1]!.onWake((wake) => heard.push(wake.kind))
        await eventually('wake-ups pass again between the two', async () => {
          const task: NewTask = {
            ...{
              id: makeTaskId('task', systemClock.wallMs()),
              tenant: 'late',
              endpoint: '/v1/completions',
              model: 'late',
            },
            ...{
              band: 50,
              cost: 1,
              createdAtMs: 1,
              runAtMs: null,
              deadlineMs: null,
              attemptsMax: 1,
              parent: null,
            },
            ...{ position: null, idempotencyKey: null, fingerprint: null, metadata: {}, notify: false },
            payload: Buffer.alloc(0),
          }
          await stores[0]!.tasks.submit([task], limits)
          return heard.includes('ready')
        })
        for (const store of stores) await store.stop()
      } finally {
        await cluster.remove()
      }
    },
  )
})
