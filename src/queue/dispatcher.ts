import type { Clock } from '../core/clock.ts'
import { fail } from '../core/errors.ts'
import { makeId } from '../core/ids.ts'
import type { Service } from '../core/service.ts'
import { StoreUnavailable, type Store } from '../storage/store.ts'
import type { AttemptOutcome, ClaimedTask, TaskUsage } from '../storage/task-store.ts'
import { isFinal } from '../storage/task-states.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Allowance } from './allowance.ts'
import { LeaseKeeper } from './lease-keeper.ts'
import { AgedTurns } from './order.ts'
import type { ProgressBoard } from './progress.ts'
import type { QueueMetrics } from './queue-metrics.ts'
import type { QueueSettings } from './queue.ts'
import type { Runner } from './runner.ts'
import { Settler, untilStored } from './settler.ts'
import { TaskRun, type RunEnd } from './task-run.ts'

/** Wakes are hints: a lost one costs this at most. */
const pollMs = 1_000
/** Leases are looked after at least this often: that is how soon a cancel from another process is seen. */
const beatMsMax = 500
/** Taken in one claim. */
const claimMax = 64
/** At the end, for the store to take what is left. */
const releaseMs = 5_000

type DispatcherParts = {
  store: Store
  runner: Pick<Runner, 'run'>
  allowance: Pick<Allowance, 'look' | 'free' | 'tasksMax'>
  /** The model that a caller's name stands for; null when nothing of this name is served. */
  resolve: (name: string) => string | null
  progress: ProgressBoard
  metrics: QueueMetrics
  clock: Clock
  settings: () => QueueSettings
  /** How long tasks that run may go on after `stop`. */
  drainMs: () => number
  log: Logger
  random?: () => number
  /** Told of each attempt whose end was accepted by the store, once. */
  onSettled?: (ended: EndedAttempt) => void
}

/** How an attempt ended, and whose it was. */
export type EndedAttempt = {
  tenant: string
  /** The key by which the task was submitted; null for none. */
  keyId: string | null
  /** The model itself, where the task named an alias. */
  model: string
  outcome: AttemptOutcome
  /** Of a task that was cancelled or expired while it was answered; null where nothing was said yet. */
  cutUsage: TaskUsage | null
  ranMs: number
}

/**
 * Takes tasks out of the line and runs them, as many as live requests leave room for.
 *
 *   wake, poll or an end -> allowance -> claim -> run -> settle -> again
 *   beat                 -> leases renewed, cancels and time limits seen
 */
export class Dispatcher implements Service {
  readonly name = 'task-queue'
  readonly #parts: DispatcherParts
  readonly #owner = makeId('worker')
  readonly #runs = new Map<string, TaskRun>()
  readonly #runningByModel = new Map<string, number>()
  readonly #turns = new Map<string, AgedTurns>()
  readonly #settler: Settler
  readonly #leases: LeaseKeeper
  readonly #random: () => number
  /** Models, as callers name them, for which tasks may wait. */
  #waiting = new Set<string>()
  readonly #stops: (() => void)[] = []
  /** Ends the waiting for a store that does not come back. */
  readonly #giveUp = new AbortController()
  #isStarted = false
  #isStopping = false
  #pumping: Promise<void> | null = null
  #pumpsAgain = false
  #isAway = false
  #onIdle: (() => void) | null = null
  #stopped: Promise<void> | null = null

  constructor(parts: DispatcherParts) {
    this.#parts = parts
    this.#random = parts.random ?? Math.random
    const { clock, log, settings } = parts
    const { tasks } = parts.store
    this.#settler = new Settler({ tasks, clock })
    this.#leases = new LeaseKeeper({ tasks, clock, log, leaseMs: () => settings().leaseMs, runs: this.#runs })
    parts.metrics.watchDispatcher({
      runningHere: () => this.#runs.size,
      tasksMax: () => parts.allowance.tasksMax,
    })
  }

  /** Tasks that run here now. */
  get running(): number {
    return this.#runs.size
  }

  start(): Promise<void> {
    if (this.#isStarted || this.#isStopping) return Promise.resolve()
    this.#isStarted = true
    const { store, clock, metrics, settings } = this.#parts
    const beatMs = Math.min(settings().leaseMs / 3, beatMsMax)
    this.#stops.push(
      store.onWake((wake) => {
        if (wake.kind === 'cancel') void this.#leases.renewOne(wake.id)
        if (wake.kind !== 'ready' || this.#isStopping) return
        this.#waiting.add(wake.model)
        this.#pump()
      }),
      clock.every(beatMs, () => this.#beat()),
      clock.every(pollMs, () => void this.#poll()),
      metrics.watchDepths(store.tasks, clock),
    )
    void this.#poll()
    return Promise.resolve()
  }

  /** Claims no more, lets what runs go on for a while, then gives the rest back: another worker takes it at once. */
  stop(): Promise<void> {
    this.#isStopping = true
    this.#stopped ??= this.#drain()
    return this.#stopped
  }

  /** Ends what runs at once and gives it back; `stop` then has nothing to wait for. */
  cut(): void {
    this.#isStopping = true
    for (const run of this.#runs.values()) run.end('stopping')
  }

  async #drain(): Promise<void> {
    const { drainMs } = this.#parts
    if (!(await this.#isIdleWithin(drainMs()))) {
      for (const run of this.#runs.values()) run.end('stopping')
      if (!(await this.#isIdleWithin(releaseMs))) this.#giveUp.abort(fail('shutting_down'))
    }
    for (const stop of this.#stops.splice(0)) stop()
    // What could not be written down is found by the rescue when its lease is over.
    if (this.#runs.size > 0) this.#parts.log.warn({ tasks: this.#runs.size }, 'tasks left behind at the end')
  }

  #isIdleWithin(ms: number): Promise<boolean> {
    if (this.#isIdle()) return Promise.resolve(true)
    return new Promise((resolve) => {
      const cancel = this.#parts.clock.after(ms, () => {
        this.#onIdle = null
        resolve(false)
      })
      this.#onIdle = () => {
        if (!this.#isIdle()) return
        this.#onIdle = null
        cancel()
        resolve(true)
      }
    })
  }

  /** A claim under way may still bring tasks. */
  #isIdle(): boolean {
    return this.#runs.size === 0 && this.#pumping === null
  }

  #beat(): void {
    const nowMs = this.#parts.clock.now()
    for (const run of this.#runs.values()) run.checkTime(nowMs)
    void this.#leases.renewAll()
    // Room grows by time, too.
    this.#pump()
  }

  async #poll(): Promise<void> {
    if (this.#isStopping) return
    try {
      for (const model of await this.#parts.store.tasks.waitingModels()) this.#waiting.add(model)
      this.#noteStore(null)
    } catch (thrown) {
      this.#noteStore(thrown)
    }
    this.#pump()
  }

  #pump(): void {
    this.#pumpsAgain = true
    if (this.#pumping || this.#isStopping || this.#waiting.size === 0) return
    this.#pumping = this.#claimAll().finally(() => {
      this.#pumping = null
      this.#onIdle?.()
      // Somebody may have asked between the last look and here.
      if (this.#pumpsAgain) this.#pump()
    })
  }

  async #claimAll(): Promise<void> {
    const { allowance } = this.#parts
    while (this.#pumpsAgain && !this.#isStopping) {
      this.#pumpsAgain = false
      allowance.look(this.#runningByModel)
      for (const name of this.#waiting) {
        const limit = this.#roomFor(name)
        if (limit <= 0) continue
        // Last in turn from now on; and a wake that comes meanwhile puts it back in.
        this.#waiting.delete(name)
        const claimed = await this.#claim(name, limit)
        if (claimed === null) return
        if (claimed.length === limit) this.#waiting.add(name)
        if (this.#isStopping) return
      }
    }
  }

  #roomFor(name: string): number {
    const { allowance, resolve, settings } = this.#parts
    const model = resolve(name)
    if (model === null) return 0
    const free = allowance.free(model, this.#runningByModel)
    return Math.min(free, settings().concurrencyMax - this.#runs.size, claimMax)
  }

  /** Null when the store is away. */
  async #claim(name: string, limit: number): Promise<ClaimedTask[] | null> {
    const { store, clock, settings, metrics, resolve } = this.#parts
    const { leaseMs, ageingMs } = settings()
    const turns = this.#turns.get(name) ?? new AgedTurns()
    this.#turns.set(name, turns)
    const agedLimit = turns.slots(limit)
    try {
      const claimed = await store.tasks.claim({
        model: name,
        owner: this.#owner,
        nowMs: clock.wallMs(),
        leaseMs,
        limit,
        agedLimit,
        ageingMs,
      })
      turns.note(claimed.length, agedLimit)
      if (claimed.length > 0) metrics.claimed(resolve(name) ?? name, claimed.length)
      for (const task of claimed) void this.#work(task, resolve(name) ?? name)
      this.#noteStore(null)
      return claimed
    } catch (thrown) {
      this.#waiting.add(name)
      this.#noteStore(thrown)
      return null
    }
  }

  async #work(claimed: ClaimedTask, model: string): Promise<void> {
    const { clock, settings, runner, progress, metrics, log, store } = this.#parts
    const { attemptTimeoutMs, retryDelayMs, retryDelayMaxMs } = settings()
    const { task } = claimed
    const { id, attempt } = task
    const run = new TaskRun(claimed, {
      clock,
      model,
      attemptTimeoutMs,
      backoff: { delayMs: retryDelayMs, delayMaxMs: retryDelayMaxMs },
      random: this.#random,
      onFault: (err) => log.error({ err, task: id, attempt }, 'a task failed in a way that nobody foresaw'),
    })
    this.#runs.set(id, run)
    this.#count(model, 1)
    if (attempt === 1 && task.startedAtMs !== null) {
      metrics.waited(task.startedAtMs - Math.max(task.createdAtMs, task.runAtMs ?? 0))
    }
    if (this.#isStopping) run.end('stopping')
    const end = await run.run(runner, {
      noteTokens: (tokens) => {
        run.producedTokens = tokens
        progress.note(id, tokens)
      },
      saveStep: async (step, result) => {
        const save = () => store.tasks.saveStep(id, attempt, { step, attempt, result })
        if (await untilStored(save, clock, this.#giveUp.signal)) {
          run.stepsDone += 1
          return
        }
        run.end('lost')
        throw fail('client_closed')
      },
    })
    const ended = await this.#settle(run, end)
    progress.clear(id, { ended })
    if (this.#runs.get(id) === run) this.#runs.delete(id)
    this.#count(model, -1)
    this.#onIdle?.()
    this.#pump()
  }

  /** Resolves with whether the task has ended for good. */
  async #settle(run: TaskRun, end: RunEnd | null): Promise<boolean> {
    const { clock, metrics, log } = this.#parts
    const { id, attempt } = run.task
    const ranMs = clock.now() - run.startedAtMs
    if (end === null) {
      this.#noteLost(run, 'running')
      return false
    }
    run.isSettling = true
    try {
      const settlement = { id, attempt, nowMs: clock.wallMs(), ...end }
      const settled = await this.#settler.settle(settlement, this.#giveUp.signal)
      if (settled.kind === 'lost') {
        this.#noteLost(run, end.outcome.kind)
        return false
      }
      metrics.settled(end.outcome.kind, ranMs)
      const { task, keyId, model } = run
      const { outcome } = end
      const isCut = outcome.kind === 'cancelled' || outcome.kind === 'expired'
      const cutUsage = isCut ? run.estimateUsage() : null
      this.#parts.onSettled?.({ tenant: task.tenant, keyId, model, outcome, cutUsage, ranMs })
      return isFinal(settled.status)
    } catch (thrown) {
      log.error(
        { err: thrown, task: id, attempt, outcome: end.outcome.kind },
        'the end of an attempt could not be stored',
      )
      return false
    }
  }

  /** Somebody else has the task: this process was silent for longer than its lease. What it found out is void. */
  #noteLost({ task }: TaskRun, outcome: string): void {
    this.#parts.metrics.lost()
    this.#parts.log.warn(
      { task: task.id, attempt: task.attempt, outcome },
      'lease lost: the attempt does not count',
    )
  }

  #count(model: string, change: number): void {
    const count = (this.#runningByModel.get(model) ?? 0) + change
    if (count === 0) this.#runningByModel.delete(model)
    else this.#runningByModel.set(model, count)
  }

  /** Says once that the store is away, and once that it is back. */
  #noteStore(thrown: unknown): void {
    const { log } = this.#parts
    if (thrown === null) {
      if (this.#isAway) log.info('the storage is back: tasks are taken again')
      this.#isAway = false
    } else if (!(thrown instanceof StoreUnavailable)) {
      log.error({ err: thrown }, 'taking tasks failed')
    } else if (!this.#isAway) {
      log.warn({ reason: thrown.message }, 'no tasks are taken: the storage is away')
      this.#isAway = true
    }
  }
}
