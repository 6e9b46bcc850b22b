import type { Config } from '../config/schema.ts'
import type { Clock } from '../core/clock.ts'
import { ApiError, fail, toApiError } from '../core/errors.ts'
import type { Store } from '../storage/store.ts'
import type {
  BatchResult,
  NewTask,
  SubmitOutcome,
  TaskDetail,
  TaskEvent,
  TaskFilter,
  TaskRow,
} from '../storage/task-store.ts'
import { makeTaskId } from '../storage/task-id.ts'
import { isFinal, type TaskStatus } from '../storage/task-states.ts'
import type { Logger } from '../telemetry/log.ts'
import { askStore } from './ask-store.ts'
import { bodyChecks, checkWork, type BodyChecks } from './check-work.ts'
import { fingerprint } from './fingerprint.ts'
import { TaskBells } from './follow.ts'
import { estimateCost } from './order.ts'
import type { ProgressView } from './progress.ts'
import type { TaskPayload, TaskSpec } from './task.ts'

export type QueueSettings = Config['queue']

/** `created` false: the idempotency key was known. */
export type Submitted = { task: TaskRow; created: boolean }

export type TaskNews =
  | { kind: 'event'; event: TaskEvent; task: TaskRow }
  /** Since the attempt began; best effort, from the process that runs the task only. */
  | { kind: 'progress'; completionTokens: number }

/** Bounds of what a caller is asked to wait while the queue is full. */
const fullRetryAfterMs = { min: 1_000, max: 60_000 } as const

/** What is a tenant's own. */
export type TenantRules = {
  /** Its share beside others; 1 is the usual. */
  weight: number
  /** The most urgent band that it may have: what asks for more gets this one. */
  bandMin: number
  mayUse: (model: string) => boolean
  /** Throws budget_exceeded: then it may submit nothing. What it has submitted before is run. */
  checkBudget?: () => void | Promise<void>
}

type QueueParts = {
  store: Store
  clock: Clock
  settings: () => QueueSettings
  rulesOf: (tenant: string) => TenantRules
  isServed: (model: string) => boolean
  progress: ProgressView
  log: Logger
  /** Checks of bodies that take the place of the usual ones. */
  checks?: Partial<BodyChecks>
}

/** Where tasks are submitted, looked at and called off. It runs none: that is the dispatcher's work. */
export class Queue {
  readonly #store: Store
  readonly #clock: Clock
  readonly #settings: () => QueueSettings
  readonly #rulesOf: (tenant: string) => TenantRules
  readonly #isServed: (model: string) => boolean
  readonly #progress: ProgressView
  readonly #log: Logger
  readonly #checks: BodyChecks
  readonly #bells: TaskBells

  constructor(parts: QueueParts) {
    this.#store = parts.store
    this.#clock = parts.clock
    this.#settings = parts.settings
    this.#rulesOf = parts.rulesOf
    this.#isServed = parts.isServed
    this.#progress = parts.progress
    this.#log = parts.log
    this.#checks = { ...bodyChecks, ...parts.checks }
    this.#bells = new TaskBells(parts)
  }

  /**
   * Checks the work as the live route would (same errors, the param behind `body.`), estimates its cost and stores it.
   * When the promise resolves, the task is on disk. Throws invalid_request, model_not_found, budget_exceeded,
   * queue_full (with retryAfterMs), idempotency_conflict, storage_unavailable.
   */
  async submit(spec: TaskSpec): Promise<Submitted> {
    const [outcome] = await this.submitAll([spec])
    if (outcome instanceof ApiError) throw outcome
    return outcome as Submitted
  }

  /** Many at once, in one commit; a refusal stands at its own place and harms no other. */
  async submitAll(specs: readonly TaskSpec[]): Promise<(Submitted | ApiError)[]> {
    const overspent = await this.#checkBudgets(specs)
    const prepared = specs.map((spec) => overspent?.get(spec.tenant) ?? this.#tryPrepare(spec))
    const tasks = prepared.filter((item): item is NewTask => !(item instanceof ApiError))
    const { tenantTasksMax, tenantBytesMax, tasksMax, bytesMax } = this.#settings()
    const limits = { tenantTasksMax, tenantBytesMax, tasksMax, bytesMax }
    const outcomes = tasks.length === 0 ? [] : await askStore(() => this.#store.tasks.submit(tasks, limits))
    let next = 0
    return prepared.map((item) =>
      item instanceof ApiError ? item : this.#readOutcome(outcomes[next++] as SubmitOutcome),
    )
  }

  /** Throws task_not_found. */
  async get(tenant: string, id: string): Promise<TaskDetail> {
    return (await askStore(() => this.#store.tasks.get(tenant, id))) ?? unknownTask(id)
  }

  list(filter: TaskFilter): Promise<TaskRow[]> {
    return askStore(() => this.#store.tasks.list(filter))
  }

  count(tenant: string, parent?: string): Promise<Record<TaskStatus, number>> {
    return askStore(() => this.#store.tasks.count(tenant, parent))
  }

  /**
   * Queued and delayed tasks end at once; a running one within a second, wherever it runs, and `cancelRequested` says
   * so until then. An ended task stays what it is. Throws task_not_found.
   */
  async cancel(tenant: string, id: string): Promise<TaskRow> {
    return (
      (await askStore(() => this.#store.tasks.cancel(tenant, id, this.#clock.wallMs()))) ?? unknownTask(id)
    )
  }

  /** From `dead`, `cancelled` or `expired` back into the line. Throws task_not_found, and conflict in any other state. */
  async requeue(tenant: string, id: string): Promise<TaskRow> {
    const found = await askStore(() => this.#store.tasks.requeue(tenant, id, this.#clock.wallMs()))
    if (!found) return unknownTask(id)
    if (found.moved) return found.task
    throw fail('conflict', {
      message: `Task ${id} is ${found.task.status}; only dead, cancelled and expired tasks can be queued again.`,
    })
  }

  /** Throws task_not_found, and conflict while the task waits or runs. */
  async remove(tenant: string, id: string): Promise<void> {
    const outcome = await askStore(() => this.#store.tasks.remove(tenant, id))
    if (outcome === null) unknownTask(id)
    if (outcome === 'live') {
      throw fail('conflict', { message: `Task ${id} has not ended; cancel it before it is removed.` })
    }
  }

  /** Results of a batch's ended tasks in the order of their positions. */
  results(parent: string, afterPosition: number, limit: number): Promise<BatchResult[]> {
    return askStore(() => this.#store.tasks.results(parent, afterPosition, limit))
  }

  /**
   * States after `afterSeq`, then what comes; ends after the last event of an ended task, or when `signal` aborts.
   * A slow reader holds nothing but its place: what it missed is read from the store when it asks. Throws
   * task_not_found.
   */
  async *follow(
    tenant: string,
    id: string,
    afterSeq: number,
    signal: AbortSignal,
  ): AsyncGenerator<TaskNews, void, undefined> {
    const bell = this.#bells.hang(id, signal)
    try {
      let seq = afterSeq
      for (let ring = 'changed'; ring !== 'aborted'; ring = await bell.next()) {
        if (signal.aborted) return
        if (ring === 'progress') {
          const completionTokens = this.#progress.read(id)
          if (completionTokens !== null) yield { kind: 'progress', completionTokens }
          continue
        }
        const found = await askStore(() => this.#store.tasks.eventsAfter(id, seq))
        if (!found || found.task.tenant !== tenant) return unknownTask(id)
        for (const event of found.events) {
          seq = event.seq
          yield { kind: 'event', event, task: found.task }
        }
        if (isFinal(found.task.status)) return
      }
    } finally {
      bell.close()
    }
  }

  /** The refusals of those tenants that have spent their budgets; null for none. */
  async #checkBudgets(specs: readonly TaskSpec[]): Promise<Map<string, ApiError> | null> {
    let refusals: Map<string, ApiError> | null = null
    for (const tenant of new Set(specs.map((spec) => spec.tenant))) {
      try {
        const checked = this.#rulesOf(tenant).checkBudget?.()
        if (checked instanceof Promise) await checked
      } catch (thrown) {
        refusals ??= new Map()
        refusals.set(tenant, this.#explain(thrown, 'checking a budget failed'))
      }
    }
    return refusals
  }

  #tryPrepare(spec: TaskSpec): NewTask | ApiError {
    try {
      return this.#prepare(spec)
    } catch (thrown) {
      return this.#explain(thrown, 'checking a task failed')
    }
  }

  /** The refusal that follows from an error; one that is none of the table's is a fault of ours. */
  #explain(thrown: unknown, what: string): ApiError {
    if (!(thrown instanceof ApiError)) this.#log.error({ err: thrown }, what)
    return toApiError(thrown)
  }

  #prepare(spec: TaskSpec): NewTask {
    const { tenant, work, webhook, keyId } = spec
    const rules = this.#rulesOf(tenant)
    // A model that the tenant may not use is as little there as one that nobody serves.
    const isServed = (name: string) => this.#isServed(name) && rules.mayUse(name)
    const model = checkWork(work, this.#checks, isServed)
    const nowMs = this.#clock.wallMs()
    const payload: TaskPayload = { work, webhook, ...(keyId === undefined ? {} : { keyId }) }
    return {
      id: makeTaskId('task', nowMs),
      tenant,
      endpoint: work.endpoint,
      model,
      band: Math.max(spec.band, rules.bandMin),
      cost: estimateCost(work, rules.weight),
      createdAtMs: nowMs,
      runAtMs: spec.runAtMs !== null && spec.runAtMs > nowMs ? spec.runAtMs : null,
      deadlineMs: spec.deadlineMs,
      attemptsMax: spec.attemptsMax ?? this.#settings().attemptsMax,
      parent: spec.parent,
      position: spec.position,
      idempotencyKey: spec.idempotencyKey,
      fingerprint: spec.idempotencyKey === null ? null : fingerprint(spec),
      metadata: spec.metadata,
      notify: webhook !== null,
      payload: Buffer.from(JSON.stringify(payload)),
    }
  }

  #readOutcome(outcome: SubmitOutcome): Submitted | ApiError {
    switch (outcome.kind) {
      case 'created':
        return { task: outcome.task, created: true }
      case 'existing':
        return { task: outcome.task, created: false }
      case 'conflict':
        return fail('idempotency_conflict', {
          message: `The idempotency key belongs to ${outcome.id}, which was submitted with another body.`,
        })
      case 'full': {
        const whose = outcome.scope === 'tenant' ? 'this tenant' : 'all tenants'
        return fail('queue_full', {
          message: `As many ${outcome.what === 'tasks' ? 'tasks' : 'bytes of tasks'} of ${whose} wait as are allowed.`,
          retryAfterMs: this.#fullRetryAfterMs(),
        })
      }
    }
  }

  /** When the next task will have ended, at the pace of the last half minute; that is when there is room for one. */
  #fullRetryAfterMs(): number {
    const { min, max } = fullRetryAfterMs
    return Math.round(Math.min(max, Math.max(min, 1000 / this.#progress.endsPerSecond)))
  }
}

function unknownTask(id: string): never {
  throw fail('task_not_found', {
    message: `There is no task ${JSON.stringify(id.slice(0, 100))}.`,
    param: 'id',
  })
}
