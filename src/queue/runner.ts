import type { Clock } from '../core/clock.ts'
import { fail } from '../core/errors.ts'
import type { Router } from '../router/router.ts'
import type { TaskRow, TaskStep, TaskUsage } from '../storage/store.ts'
import type { CallWork, TaskEndpoint, TaskPayload } from './task.ts'

/** A claimed task. */
export type Job = { task: TaskRow; payload: TaskPayload; steps: readonly TaskStep[] }

export type JobContext = {
  /** Aborted when the attempt must end: cancelled, lost, past its time, or the process stops. */
  signal: AbortSignal
  /** Tokens produced since the attempt began. */
  noteTokens(completionTokens: number): void
  /** Keeps the result of a step, which is then not run again. Throws when the attempt is lost. */
  saveStep(step: number, result: Uint8Array): Promise<void>
}

export type JobResult = {
  /** The JSON body that the live route would have answered. */
  result: Uint8Array
  usage: TaskUsage | null
  instance: string | null
}

/** Throws ApiError; `retryable` of the error table and retryAfterMs decide about another attempt. */
export type Executor = (job: Job, work: CallWork, context: JobContext) => Promise<JobResult>

/** The only door of the queue to a model. */
export type RunCall = Pick<Router, 'run'>

/** Runs one claimed task: finds the executor of its endpoint, or goes through the steps of a sequence. */
export class Runner {
  readonly #executors = new Map<TaskEndpoint, Executor>()

  readonly #router: RunCall

  constructor(parts: { router: RunCall; clock: Clock }) {
    this.#router = parts.router
  }

  /** Sets who answers an endpoint, in place of whoever did. */
  register(endpoint: TaskEndpoint, executor: Executor): void {
    this.#executors.set(endpoint, executor)
  }

  /** Throws ApiError. */
  async run(job: Job, context: JobContext): Promise<JobResult> {
    const { work } = job.payload
    if (work.endpoint === 'sequence') throw fail('internal')
    const executor = this.#executors.get(work.endpoint)
    if (!executor || !this.#router) throw fail('internal', { message: `Nothing answers ${work.endpoint}.` })
    return executor(job, work, context)
  }
}
