import type { Clock } from '../core/clock.ts'
import { ApiError, fail, toApiError } from '../core/errors.ts'
import type { AttemptOutcome, ClaimedTask, TaskRow, TaskUsage } from '../storage/task-store.ts'
import type { BackoffRules } from './backoff.ts'
import { estimateCutUsage } from './cut-usage.ts'
import { judgeAttempt } from './outcome.ts'
import type { JobContext, JobResult, Runner } from './runner.ts'
import { readPayload } from './task.ts'

/** Why this side ends an attempt that runs. */
type Ending = 'cancelled' | 'expired' | 'timeout' | 'lost' | 'stopping'

export type RunEnd = { outcome: AttemptOutcome; instance: string | null }

type RunParts = {
  clock: Clock
  /** The model that the task's name for it stands for. */
  model: string
  attemptTimeoutMs: number
  backoff: BackoffRules
  random: () => number
  onFault: (error: unknown) => void
}

/** One attempt at a task, from its claim to the outcome that is to be settled. */
export class TaskRun {
  readonly task: TaskRow
  readonly model: string
  readonly startedAtMs: number
  /** The result is on its way to the store: what is heard of the lease from now on may be of our own making. */
  isSettling = false
  /** The key by which it was submitted; null for none, and until the attempt has begun. */
  keyId: string | null = null
  /** Of the attempt, as far as a stream tells. */
  producedTokens = 0
  /** Steps of a sequence that are saved, those of earlier attempts included. */
  stepsDone: number
  readonly #claimed: ClaimedTask
  readonly #parts: RunParts
  readonly #controller = new AbortController()
  /** Monotonic: a wall clock that jumps must not expire what runs. */
  readonly #deadlineAtMs: number
  readonly #timeoutAtMs: number
  #ending: Ending | null = null

  constructor(claimed: ClaimedTask, parts: RunParts) {
    const { clock } = parts
    this.task = claimed.task
    this.model = parts.model
    this.startedAtMs = clock.now()
    this.stepsDone = claimed.steps.length
    this.#claimed = claimed
    this.#parts = parts
    const { deadlineMs } = claimed.task
    this.#deadlineAtMs = deadlineMs === null ? Infinity : this.startedAtMs + deadlineMs - clock.wallMs()
    this.#timeoutAtMs = this.startedAtMs + parts.attemptTimeoutMs
  }

  /** Ends the attempt from this side, once: the call to the model is cut. */
  end(ending: Ending): void {
    if (this.#ending !== null || this.isSettling) return
    this.#ending = ending
    this.#controller.abort(fail('client_closed'))
  }

  /** What it has used by now, while its end is not there to tell; null for nothing. */
  estimateUsage(): TaskUsage | null {
    return estimateCutUsage(readPayload(this.#claimed.payload).work, this)
  }

  /** Ends an attempt whose time is over. */
  checkTime(nowMs: number): void {
    if (nowMs >= this.#deadlineAtMs) this.end('expired')
    else if (nowMs >= this.#timeoutAtMs) this.end('timeout')
  }

  /** Resolves with what is to be settled; null when the task belongs to somebody else by now. Never throws. */
  async run(runner: Pick<Runner, 'run'>, context: Omit<JobContext, 'signal'>): Promise<RunEnd | null> {
    this.checkTime(this.startedAtMs)
    try {
      const { instance, result, usage } = await this.#execute(runner, context)
      return { outcome: { kind: 'succeeded', result, usage }, instance }
    } catch (thrown) {
      return this.#explain(thrown)
    }
  }

  /** The executor's end or ours, whichever comes first: one that does not heed its signal holds nobody up. */
  #execute(runner: Pick<Runner, 'run'>, context: Omit<JobContext, 'signal'>): Promise<JobResult> {
    const { signal } = this.#controller
    if (signal.aborted) return Promise.reject(signal.reason as Error)
    const { task, steps } = this.#claimed
    return new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
      const payload = readPayload(this.#claimed.payload)
      this.keyId = payload.keyId ?? null
      const job = { task, steps, payload }
      runner.run(job, { ...context, signal }).then(resolve, reject)
    })
  }

  #explain(thrown: unknown): RunEnd | null {
    switch (this.#ending) {
      case 'lost':
        return null
      case 'cancelled':
      case 'expired':
        return { outcome: { kind: this.#ending }, instance: null }
      case 'stopping':
        return { outcome: { kind: 'released' }, instance: null }
      case 'timeout': {
        const seconds = this.#parts.attemptTimeoutMs / 1000
        return this.#judge(
          fail('upstream_timeout', { message: `The attempt took longer than ${seconds} s.` }),
        )
      }
      case null:
        if (!(thrown instanceof ApiError)) this.#parts.onFault(thrown)
        return this.#judge(toApiError(thrown))
    }
  }

  #judge(error: ApiError): RunEnd {
    const { attempt, attemptsMax, deadlineMs } = this.task
    const nowMs = this.#parts.clock.wallMs()
    const failed = { error, attempt, attemptsMax, deadlineMs, nowMs }
    return { outcome: judgeAttempt(failed, this.#parts.backoff, this.#parts.random), instance: null }
  }
}
