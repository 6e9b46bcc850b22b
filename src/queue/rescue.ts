import type { Clock } from '../core/clock.ts'
import type { Service } from '../core/service.ts'
import { StoreUnavailable } from '../storage/store.ts'
import type { TaskStore } from '../storage/task-store.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Pruner } from './pruner.ts'
import type { QueueMetrics } from './queue-metrics.ts'

/** Never asleep for longer: what another process has stored is not known here. */
const sleepMaxMs = 1_000
const sleepMinMs = 10
/** Moved in one transaction. */
const stepMax = 500
const pruneStepMax = 200
const pruneEveryMs = 60_000
/** Steps in one go; then others have their turn, and the next tick goes on. */
const stepsMax = 20
/** A tick is late, or the wall clock off, by more than this or half a lease: the time is not what it seems. */
const jumpMsMax = 2_000

type RescueParts = {
  tasks: Pick<TaskStore, 'promote' | 'expire' | 'rescue' | 'nextDueMs'>
  pruner: Pruner
  metrics: QueueMetrics
  clock: Clock
  leaseMs: () => number
  log: Logger
}

/**
 * Moves on what time moves on: delayed tasks whose moment has come, deadlines, tasks whose worker fell silent, ended
 * ones that are kept no longer. Each in small steps, so that nobody waits for the store meanwhile.
 *
 * Leases and due times are wall-clock times, for several machines share them, and a wall clock may be set. Two things
 * make leases look over although their workers are well: the wall clock jumps forward, or this process was stopped
 * together with its own workers (a laptop asleep, an event loop that was blocked) and its timers fire before they have
 * renewed anything. The monotonic clock shows both: between two ticks it went on by another amount than the wall
 * clock, or by far more than was slept. Then nothing is rescued for one lease, in which every worker that is alive has
 * renewed by the new time. After a jump backward the leases of dead workers lie further in the future, and their tasks
 * are rescued late by the length of the jump: late, but never twice.
 */
export class Rescue implements Service {
  readonly name = 'rescue'
  readonly #parts: RescueParts
  #cancelTimer: (() => void) | null = null
  #isRunning = false
  #ticking: Promise<void> | null = null
  #isAway = false
  /** Wall and monotonic time of the last look, and how long was to be slept then. */
  #last = { wallMs: 0, nowMs: 0, sleepMs: 0 }
  #graceUntilMs = 0
  #prunedAtMs = -Infinity

  constructor(parts: RescueParts) {
    this.#parts = parts
  }

  start(): Promise<void> {
    if (this.#isRunning) return Promise.resolve()
    this.#isRunning = true
    this.#remember(0)
    this.#schedule(0)
    return Promise.resolve()
  }

  async stop(): Promise<void> {
    this.#isRunning = false
    this.#cancelTimer?.()
    await this.#ticking
  }

  #schedule(sleepMs: number): void {
    if (!this.#isRunning) return
    this.#remember(sleepMs)
    this.#cancelTimer = this.#parts.clock.after(sleepMs, () => {
      this.#ticking = this.#tick().then((nextMs) => this.#schedule(nextMs))
    })
  }

  #remember(sleepMs: number): void {
    const { clock } = this.#parts
    this.#last = { wallMs: clock.wallMs(), nowMs: clock.now(), sleepMs }
  }

  /** Resolves with how long to sleep. Never throws. */
  async #tick(): Promise<number> {
    const { tasks, clock, log } = this.#parts
    this.#watchClocks()
    this.#remember(0)
    try {
      // Deadlines first: a task past its own must not be put into the line.
      await this.#move('expired', (nowMs) => tasks.expire(nowMs, stepMax))
      await this.#move('promoted', (nowMs) => tasks.promote(nowMs, stepMax))
      // Once more: the standstill may have come while the store was asked.
      this.#watchClocks()
      if (clock.now() >= this.#graceUntilMs)
        await this.#move('rescued', (nowMs) => tasks.rescue(nowMs, stepMax))
      await this.#prune()
      const dueMs = await tasks.nextDueMs()
      this.#isAway = false
      const waitMs = dueMs === null ? sleepMaxMs : dueMs - clock.wallMs()
      return Math.min(sleepMaxMs, Math.max(sleepMinMs, waitMs))
    } catch (thrown) {
      if (!(thrown instanceof StoreUnavailable)) log.error({ err: thrown }, 'moving tasks on failed')
      else if (!this.#isAway)
        log.warn({ reason: thrown.message }, 'tasks are not moved on: the storage is away')
      this.#isAway = thrown instanceof StoreUnavailable
      return sleepMaxMs
    }
  }

  #watchClocks(): void {
    const { clock, leaseMs, log } = this.#parts
    const nowMs = clock.now()
    const passedMs = nowMs - this.#last.nowMs
    const jumpedMs = clock.wallMs() - this.#last.wallMs - passedMs
    const lateMs = passedMs - this.#last.sleepMs
    const jumpMs = Math.min(jumpMsMax, leaseMs() / 2)
    if (Math.abs(jumpedMs) <= jumpMs && lateMs <= jumpMs) return
    this.#graceUntilMs = nowMs + leaseMs()
    log.warn(
      { jumpedMs: Math.round(jumpedMs), lateMs: Math.round(lateMs) },
      'the clock was set, or the process stood still: nothing is rescued for one lease',
    )
  }

  async #move(
    kind: 'expired' | 'promoted' | 'rescued',
    step: (nowMs: number) => Promise<readonly { id: string; status: string }[]>,
  ): Promise<void> {
    const { clock, metrics, log } = this.#parts
    for (let steps = 0; steps < stepsMax && this.#isRunning; steps += 1) {
      const moved = await step(clock.wallMs())
      if (moved.length > 0) metrics.moved(kind, moved.length)
      if (kind === 'rescued') {
        for (const { id, status } of moved) log.warn({ task: id, status }, 'rescued: its worker fell silent')
      }
      if (moved.length < stepMax) return
    }
  }

  async #prune(): Promise<void> {
    const { pruner, metrics, clock } = this.#parts
    if (clock.now() - this.#prunedAtMs < pruneEveryMs) return
    for (let steps = 0; steps < stepsMax && this.#isRunning; steps += 1) {
      const { removed, isDone } = await pruner.step(pruneStepMax)
      if (removed > 0) metrics.moved('pruned', removed)
      if (isDone) {
        this.#prunedAtMs = clock.now()
        return
      }
    }
  }
}
