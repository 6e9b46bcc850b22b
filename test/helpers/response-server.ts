import { systemClock as clock } from '../../src/core/clock.ts'
import { toApiError } from '../../src/core/errors.ts'
import { judgeAttempt } from '../../src/queue/outcome.ts'
import { makeResponseExecutor } from '../../src/queue/response-executor.ts'
import { ResponseEventLog } from '../../src/queue/responses/event-log.ts'
import { StoredResponses } from '../../src/queue/responses/stored-responses.ts'
import { readPayload, type CallWork } from '../../src/queue/task.ts'
import type { Store } from '../../src/storage/store.ts'
import type { AttemptOutcome, ClaimedTask } from '../../src/storage/task-store.ts'
import { TaskServer, type TaskServerOptions } from './task-server.ts'

const keepMs = () => 3_600_000
const backoff = { delayMs: 1, delayMaxMs: 1 }

/** A server with the routes of responses, and a worker for their tasks that works when the test says so. */
export class ResponseServer implements AsyncDisposable {
  readonly tasks: TaskServer
  readonly responses: StoredResponses
  readonly log: ResponseEventLog
  #attempts = new Map<string, AbortController>()
  #unlisten: () => void

  private constructor(tasks: TaskServer, responses: StoredResponses) {
    this.tasks = tasks
    this.responses = responses
    // Not the gateway's own: events come to its readers through the storage, as those of another process do.
    this.log = new ResponseEventLog({ store: tasks.store, clock, keepMs })
    this.#unlisten = tasks.store.onWake((wake) => {
      if (wake.kind === 'cancel') this.#attempts.get(wake.id)?.abort()
    })
  }

  static async start(options: TaskServerOptions = {}): Promise<ResponseServer> {
    const made: { responses?: StoredResponses } = {}
    const more = ({ store }: { store: Store }) => {
      const responses = new StoredResponses({ store, clock, keepMs })
      made.responses = responses
      return { responses, responseEvents: new ResponseEventLog({ store, clock, keepMs }) }
    }
    const tasks = await TaskServer.start({ ...options, more })
    return new ResponseServer(tasks, made.responses as StoredResponses)
  }

  get url(): string {
    return this.tasks.url
  }

  /** Claims the next task and runs one attempt at it, up to its settlement. */
  async work(): Promise<string> {
    return this.attempt(await this.tasks.work())
  }

  /** Runs one attempt; one that does not settle is that of a worker that died. */
  async attempt({ task, payload, steps }: ClaimedTask, { settles = true } = {}): Promise<string> {
    const execute = makeResponseExecutor({
      router: this.tasks.router,
      responses: this.responses,
      log: this.log,
      clock,
    })
    const stop = new AbortController()
    this.#attempts.set(task.id, stop)
    const context = { signal: stop.signal, noteTokens: () => {}, saveStep: () => Promise.resolve() }
    const read = readPayload(payload)
    let outcome: AttemptOutcome
    let instance: string | null = null
    try {
      const done = await execute({ task, payload: read, steps }, read.work as CallWork, context)
      outcome = { kind: 'succeeded', result: done.result, usage: done.usage }
      instance = done.instance
    } catch (thrown) {
      const { attempt, attemptsMax, deadlineMs } = task
      const failed = { error: toApiError(thrown), attempt, attemptsMax, deadlineMs, nowMs: clock.wallMs() }
      outcome = stop.signal.aborted ? { kind: 'cancelled' } : judgeAttempt(failed, backoff, Math.random)
    }
    this.#attempts.delete(task.id)
    if (!settles) return outcome.kind
    const settled = { id: task.id, attempt: task.attempt, nowMs: clock.wallMs(), instance, outcome }
    await this.tasks.store.tasks.settle([settled])
    await this.tasks.store.tasks.promote(clock.wallMs() + 60_000, 10)
    return outcome.kind
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#unlisten()
    for (const stop of this.#attempts.values()) stop.abort()
    await this.tasks[Symbol.asyncDispose]()
  }
}
