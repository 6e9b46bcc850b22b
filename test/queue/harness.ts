import { bands } from '../../src/queue/task.ts'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { Instance, type InstanceSpec } from '../../src/fleet/instance.ts'
import { Registry } from '../../src/fleet/registry.ts'
import { Connections } from '../../src/fleet/transport.ts'
import { Allowance } from '../../src/queue/allowance.ts'
import { Dispatcher, type EndedAttempt } from '../../src/queue/dispatcher.ts'
import { LiveBook } from '../../src/queue/live-signals.ts'
import { ProgressBoard } from '../../src/queue/progress.ts'
import { Pruner, type KeepTimes } from '../../src/queue/pruner.ts'
import { QueueMetrics } from '../../src/queue/queue-metrics.ts'
import { Queue, type QueueSettings } from '../../src/queue/queue.ts'
import { Rescue } from '../../src/queue/rescue.ts'
import { Runner } from '../../src/queue/runner.ts'
import type { TaskSpec } from '../../src/queue/task.ts'
import { Router } from '../../src/router/router.ts'
import { SqliteStore } from '../../src/storage/sqlite/sqlite-store.ts'
import type { Store } from '../../src/storage/store.ts'
import type { TaskDetail } from '../../src/storage/task-store.ts'
import { MetricsRegistry } from '../../src/telemetry/metrics.ts'
import { ManualClock } from '../helpers/clock.ts'
import { chatTask } from '../helpers/task-spec.ts'

/** A clock whose wall can be set. */
export class JumpyClock extends ManualClock {
  wallOffsetMs = 0

  #lateMs = 0

  override now(): number {
    return super.now() + this.#lateMs
  }

  override wallMs(): number {
    return super.wallMs() + this.wallOffsetMs + this.#lateMs
  }

  /** Time goes on, and no timer fires meanwhile: the event loop was blocked, or the machine asleep. */
  standStill(ms: number): void {
    this.#lateMs += ms
  }
}

export const silent = pino({ level: 'silent' })

const rules = {
  policy: 'least_conn',
  policies: {},
  aliases: { nick: 'm' },
  fallbacks: {},
  retryRatio: 0,
  retryReserve: 0,
  attemptsMax: 1,
  firstByteMs: 10_000_000,
  idleMs: 10_000_000,
  hedgeAfterMs: 0,
  health: { ejectAfterFailures: 1000, ejectBaseMs: 1, ejectShareMax: 0.5, breakerWindowMs: 1000, breakerCallsMin: 100_000, breakerShare: 1, breakerSlowMs: 0, breakerOpenMs: 1 },
} as const // prettier-ignore

export const settings: QueueSettings = {
  concurrencyMax: 64,
  liveReserve: 0,
  attemptsMax: 3,
  retryDelayMs: 1_000,
  retryDelayMaxMs: 300_000,
  leaseMs: 30_000,
  attemptTimeoutMs: 3_600_000,
  ageingMs: 60_000,
  tenantTasksMax: 100_000,
  tenantBytesMax: 1e9,
  tasksMax: 1e6,
  bytesMax: 1e10,
}

/** The same store, for a process that no wake reaches. */
export const deafen = ({
  name,
  tasks,
  documents,
  blobs,
  cache,
  outbox,
  access,
  usage,
  maintenance,
}: Store): Store => ({
  ...{ name, tasks, documents, blobs, cache, outbox, access, usage, maintenance },
  start: () => Promise.resolve(),
  stop: () => Promise.resolve(),
  onWake: () => () => {},
})

export type WorkerOptions = {
  settings?: Partial<QueueSettings>
  upstreams?: Record<string, string>
  slots?: number
  models?: readonly string[]
  random?: () => number
  store?: Store
  clock?: JumpyClock
  onSettled?: (ended: EndedAttempt) => void
  checkBudget?: (tenant: string) => void | Promise<void>
  drainMs?: number
}

/** The whole queue of one process, over a real store; its clock stands still until a test moves it. */
export class Worker {
  readonly clock: JumpyClock
  readonly store: Store
  readonly registry = new Registry()
  readonly live: LiveBook
  readonly progress: ProgressBoard
  readonly queue: Queue
  readonly runner: Runner
  readonly dispatcher: Dispatcher
  readonly rescue: Rescue
  readonly metrics = new MetricsRegistry()
  settings: QueueSettings
  keepTimes: KeepTimes = { keepMs: 604_800_000, own: [], finishedMax: 1_000_000 }

  constructor(store: Store, options: WorkerOptions) {
    const clock = options.clock ?? new JumpyClock()
    this.clock = clock
    this.store = store
    this.settings = { ...settings, ...options.settings }
    this.live = new LiveBook(clock)
    this.progress = new ProgressBoard(clock)
    const router = new Router({ registry: this.registry, rules, clock, log: silent })
    const metrics = new QueueMetrics(this.metrics)
    const parts = {
      store,
      clock,
      log: silent,
      progress: this.progress,
      settings: () => this.settings,
      metrics,
    }
    this.queue = new Queue({
      ...parts,
      rulesOf: (tenant) => ({
        weight: tenant === 'heavy' ? 4 : 1,
        bandMin: tenant === 'humble' ? bands.low : bands.urgent,
        mayUse: () => tenant !== 'barred',
        ...(options.checkBudget ? { checkBudget: () => options.checkBudget?.(tenant) } : {}),
      }),
      isServed: (model) => router.resolve(model) !== null,
    })
    this.runner = new Runner({ router })
    this.dispatcher = new Dispatcher({
      ...parts,
      runner: this.runner,
      allowance: new Allowance({
        registry: this.registry,
        live: this.live,
        clock,
        reserve: () => this.settings.liveReserve,
      }),
      resolve: (name) => router.resolve(name),
      drainMs: () => options.drainMs ?? 1_000,
      random: options.random ?? (() => 1),
      ...(options.onSettled ? { onSettled: options.onSettled } : {}),
    })
    this.rescue = new Rescue({
      tasks: store.tasks,
      pruner: new Pruner({ maintenance: store.maintenance, clock, times: () => this.keepTimes }),
      metrics,
      clock,
      leaseMs: () => this.settings.leaseMs,
      log: silent,
    })
    for (const [id, url] of Object.entries(options.upstreams ?? {})) {
      this.addInstance(id, url, { slots: options.slots ?? 8, models: options.models ?? ['m'] })
    }
  }

  addInstance(id: string, url: string, more: { slots: number; models: readonly string[] }): Instance {
    const { origin, pathname } = new URL(url)
    const endpoint = { origin, basePath: pathname, socketPath: null, apiKey: null }
    const spec: InstanceSpec = {
      id,
      kind: 'remote',
      endpoint,
      weight: 1,
      inFlightMax: 1000,
      slots: more.slots,
      areSlotsKnown: true,
      probe: 'off',
      models: new Map(more.models.map((model) => [model, model])),
    }
    const instance = new Instance(spec, new Connections(endpoint, { connectMs: 1_000 }))
    this.registry.add(instance)
    this.registry.move(instance, 'ready')
    return instance
  }

  async start(): Promise<this> {
    await this.dispatcher.start()
    await this.rescue.start()
    return this
  }

  /** Lets time pass in small steps until something holds. */
  async until(what: string, holds: () => boolean | Promise<boolean>, stepMs = 50): Promise<void> {
    // Real work (a connection) needs real time: where the clock goes on, it must not run ahead of that.
    const pauseMs = stepMs === 0 ? 1 : 8
    for (const untilMs = performance.now() + 20_000; !(await holds()); this.clock.advance(stepMs)) {
      if (performance.now() > untilMs) throw new Error(`waited 20 s in vain until ${what}`)
      await new Promise((resolve) => setTimeout(resolve, pauseMs))
      if (stepMs > 0) await this.stored()
    }
  }

  /** What was asked of the store by now has been answered, and so has what that led to. */
  async stored(): Promise<void> {
    // A tick asks a few times, one question after another.
    for (let turn = 0; turn < 6; turn += 1) await this.store.tasks.nextDueMs()
  }

  async submit(more: Partial<TaskSpec> = {}): Promise<string> {
    return (await this.queue.submit(chatTask(more))).task.id
  }

  /** The task as soon as it has this state. */
  async reach(id: string, status: string, stepMs = 50): Promise<TaskDetail> {
    let detail: TaskDetail | null = null
    await this.until(
      `${id} is ${status}`,
      async () => {
        detail = await this.store.tasks.get('t', id)
        return detail?.task.status === status
      },
      stepMs,
    )
    return detail as unknown as TaskDetail
  }

  async stop(): Promise<void> {
    // A drain waits on the clock.
    const stopped = Promise.all([this.dispatcher.stop(), this.rescue.stop()])
    let isOver = false
    void stopped.then(() => (isOver = true))
    await this.until('the worker has stopped', () => isOver, 500)
    await Promise.all(this.registry.all.map((instance) => instance.connections.close()))
  }
}

/** A worker on a store of its own, stopped at the end of the test. */
export async function startWorker(
  options: WorkerOptions = {},
): Promise<Worker & AsyncDisposable & { beside: (more?: WorkerOptions) => Worker }> {
  const folder = await mkdtemp(join(tmpdir(), 'autoglm-queue-'))
  const clock = options.clock ?? new JumpyClock()
  const store = new SqliteStore({ path: join(folder, 'autoglm.db'), clock, log: silent })
  await store.start()
  const worker = await new Worker(options.store ?? store, { ...options, clock }).start()
  const others: Worker[] = []
  const beside = (more: WorkerOptions = {}) => {
    const other = new Worker(more.store ?? store, { ...options, ...more, clock })
    others.push(other)
    return other
  }
  const dispose = async () => {
    for (const one of [worker, ...others]) await one.stop()
    await store.stop()
    await rm(folder, { recursive: true, force: true })
  }
  return Object.assign(worker, { beside, [Symbol.asyncDispose]: dispose })
}

export const readJson = (bytes: Uint8Array | null | undefined): Record<string, unknown> =>
  JSON.parse(Buffer.from(bytes ?? []).toString('utf8')) as Record<string, unknown>
