import { fail } from '../core/errors.ts'
import type { Router } from '../router/router.ts'
import type { TaskRow, TaskStep, TaskUsage } from '../storage/task-store.ts'
import { callEndpoints, makeCallExecutor } from './call-executor.ts'
import { runSequence } from './sequence.ts'
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

/** Runs one claimed task: finds the executor of its endpoint, or goes through the steps of a sequence. */
export class Runner {
  readonly #executors = new Map<TaskEndpoint, Executor>()

  constructor(parts: { router: Pick<Router, 'run'> }) {
    for (const endpoint of callEndpoints) this.register(endpoint, makeCallExecutor(parts))
  }

  /** Sets who answers an endpoint, in place of whoever did. */
  register(endpoint: TaskEndpoint, executor: Executor): void {
    this.#executors.set(endpoint, executor)
  }

  /** Throws ApiError. */
  async run(job: Job, context: JobContext): Promise<JobResult> {
    const { work } = job.payload
    if (work.endpoint !== 'sequence') return this.#executorOf(work.endpoint)(job, work, context)
    return runSequence(job, {
      steps: work.steps,
      context,
      executorOf: (endpoint) => this.#executorOf(endpoint),
    })
  }

  #executorOf(endpoint: TaskEndpoint): Executor {
    const executor = this.#executors.get(endpoint)
    if (!executor) throw fail('internal', { message: `Nothing answers ${endpoint} here.` })
    return executor
  }
}
