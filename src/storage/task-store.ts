import type { TaskStatus } from './task-states.ts'

/** The part of the port that keeps tasks: submitted, claimed, settled, shown. */

/** A task as it is submitted. */
export type NewTask = {
  /** From `makeTaskId`: ids sort by the time they were made. */
  id: string
  tenant: string
  /** The route that answers it, such as `/v1/chat/completions`; `sequence` for one of several steps. */
  endpoint: string
  /** The model as the caller named it. Tasks wait in one line for each model. */
  model: string
  /** 0 (first) to 100 (last): `urgent` is 0, `high` 25, `normal` 50, `low` 75, `batch` 100. */
  band: number
  /** Estimated tokens divided by the tenant's weight: how far the task moves its tenant back in the line. */
  cost: number
  createdAtMs: number
  /** Not before this time; null for at once. */
  runAtMs: number | null
  /** Expires when it has not ended by then; null for never. */
  deadlineMs: number | null
  attemptsMax: number
  /** The batch it belongs to, and the line of it; null for a task of its own. */
  parent: string | null
  position: number | null
  /** The same key of the same tenant gives the same task; `fingerprint` tells another body by the same key. */
  idempotencyKey: string | null
  fingerprint: string | null
  metadata: Readonly<Record<string, string>>
  /** Somebody is to be told of its end: a row of the outbox is written with the last state. */
  notify: boolean
  /** What the queue needs to run it. Opaque here. */
  payload: Uint8Array
}

/** How much may wait and run; a submission beyond it is refused. */
export type QueueLimits = {
  tenantTasksMax: number
  tenantBytesMax: number
  tasksMax: number
  bytesMax: number
}

export type SubmitOutcome =
  | { kind: 'created'; task: TaskRow }
  /** The idempotency key is known, and so is the body. */
  | { kind: 'existing'; task: TaskRow }
  /** The idempotency key is known with another body. */
  | { kind: 'conflict'; id: string }
  | { kind: 'full'; scope: 'tenant' | 'all'; what: 'tasks' | 'bytes' }

/** A task as it stands: the narrow row. */
export type TaskRow = {
  id: string
  tenant: string
  endpoint: string
  model: string
  band: number
  status: TaskStatus
  /** Attempts begun so far; the number of the one that runs. A write that names another is refused. */
  attempt: number
  attemptsMax: number
  createdAtMs: number
  runAtMs: number | null
  deadlineMs: number | null
  startedAtMs: number | null
  finishedAtMs: number | null
  /** Somebody asked to cancel it while it runs. */
  cancelRequested: boolean
  parent: string | null
  position: number | null
  notify: boolean
  metadata: Readonly<Record<string, string>>
  /** Of the last attempt that failed, or `reasons.expired`; null when neither is so. */
  error: TaskError | null
  usage: TaskUsage | null
}

export type TaskError = { code: string; message: string }
export type TaskUsage = { promptTokens: number; completionTokens: number; cachedTokens: number }

/** One entry of a task's history. `seq` counts from 1 within the task; 1 is the submission, every claim has one. */
export type TaskEvent = {
  seq: number
  atMs: number
  status: TaskStatus
  attempt: number
  /** The attempt's failure, or why it was cancelled, requeued or expired. */
  error: TaskError | null
  /** The instance that worked, where one did. */
  instance: string | null
}

export type TaskStep = { step: number; attempt: number; result: Uint8Array }

export type TaskDetail = {
  task: TaskRow
  payload: Uint8Array
  result: Uint8Array | null
  steps: readonly TaskStep[]
  history: readonly TaskEvent[]
}

export type ClaimRequest = {
  model: string
  /** Who works on them: the id of a process. */
  owner: string
  nowMs: number
  leaseMs: number
  limit: number
  /** How many of `limit` may go to less urgent bands whose first task has waited for `ageingMs`. */
  agedLimit: number
  ageingMs: number
}

export type ClaimedTask = { task: TaskRow; payload: Uint8Array; steps: readonly TaskStep[] }

/**
 * How an attempt ended. `retry` waits until `runAtMs`, in `queued` when that is not after `nowMs`; `released` gives the
 * task back without using up an attempt: `attempt` stays, because no number may be used twice, and `attemptsMax` grows
 * by one.
 */
export type AttemptOutcome =
  | { kind: 'succeeded'; result: Uint8Array; usage: TaskUsage | null }
  | { kind: 'dead'; error: TaskError; result?: Uint8Array }
  | { kind: 'retry'; error: TaskError; runAtMs: number }
  | { kind: 'released' }
  | { kind: 'cancelled' }
  | { kind: 'expired' }

export type Settlement = {
  id: string
  attempt: number
  nowMs: number
  instance: string | null
  outcome: AttemptOutcome
}

/** `lost`: the task was not running in this attempt any more, and nothing was written. */
export type SettleOutcome = { kind: 'settled'; status: TaskStatus } | { kind: 'lost' }

export type LeaseState = 'held' | 'cancelled' | 'lost'

export type TaskFilter = {
  tenant: string
  statuses?: readonly TaskStatus[]
  bandMin?: number
  bandMax?: number
  model?: string
  createdFromMs?: number
  createdToMs?: number
  /** Every pair must be there. */
  metadata?: Readonly<Record<string, string>>
  parent?: string
  /** Only tasks of no batch. */
  ownOnly?: boolean
  /** Newest first, those older than this id; with `ascending` the other way round. */
  after?: string
  ascending?: boolean
  limit: number
}

/** A task that changed by time or by hand, not by its worker. */
export type MovedTask = {
  id: string
  tenant: string
  model: string
  status: TaskStatus
  parent: string | null
}

export interface TaskStore {
  /**
   * In the order given; a task refused takes no place. Tags are given out per tenant, model and band. `delayed` when
   * `runAtMs` is after `createdAtMs`: such a task gets its tag when it is promoted.
   */
  submit(tasks: readonly NewTask[], limits: QueueLimits): Promise<SubmitOutcome[]>
  /**
   * Takes up to `limit` queued tasks of a model, in the order of their bands and, within a band, of their tags
   * (start-time fair queueing, Goyal 1996: tag = max(the tenant's last finish tag, the smallest tag that waits)).
   * Each has its attempt counted and its lease running when the promise resolves.
   */
  claim(request: ClaimRequest): Promise<ClaimedTask[]>
  /** The models for which tasks are queued. */
  waitingModels(): Promise<string[]>
  /** Extends leases; says of each whether it is still held and wanted. In the order given. */
  renew(leases: readonly { id: string; attempt: number }[], leaseUntilMs: number): Promise<LeaseState[]>
  /**
   * Ends attempts, each in one step: state, result, usage, event and, for a last state, the outbox. Where a cancel was
   * asked for meanwhile, `retry` and `released` end as `cancelled`. In the order given.
   */
  settle(settlements: readonly Settlement[]): Promise<SettleOutcome[]>
  /** Keeps the result of one step of a running task; false when the attempt is lost. */
  saveStep(id: string, attempt: number, step: TaskStep): Promise<boolean>
  /** Queued and delayed: at once. Running: the request is noted and `cancelRequested` is set. Null when unknown. */
  cancel(tenant: string, id: string, nowMs: number): Promise<TaskRow | null>
  /**
   * From `dead`, `cancelled` or `expired` back to `queued`, with a new place in the line and fresh attempts: `attempt`
   * counts on, and `attemptsMax` is `attempt` and the number of the submission. A deadline that has passed is dropped,
   * and so is the result of a dead one. Unchanged in any other state.
   */
  requeue(tenant: string, id: string, nowMs: number): Promise<{ task: TaskRow; moved: boolean } | null>
  /** Removes an ended task with all that belongs to it. Null when unknown; `live` is refused. */
  remove(tenant: string, id: string): Promise<'removed' | 'live' | null>
  get(tenant: string, id: string): Promise<TaskDetail | null>
  /** The row alone, whoever's it is. */
  find(id: string): Promise<TaskRow | null>
  /** Events after `seq`, and the row: for those who follow a task. */
  eventsAfter(id: string, seq: number): Promise<{ task: TaskRow; events: TaskEvent[] } | null>
  list(filter: TaskFilter): Promise<TaskRow[]>
  /** Tasks of a tenant by status; with `parent`, those of one batch. */
  count(tenant: string, parent?: string): Promise<Record<TaskStatus, number>>
  /** Tasks of all tenants by model and status: for metrics. */
  depths(): Promise<{ model: string; status: TaskStatus; tasks: number }[]>
  /** Results of a batch's ended tasks in the order of their positions, after `position`. */
  results(parent: string, afterPosition: number, limit: number): Promise<BatchResult[]>

  /** Delayed tasks whose time has come become queued. */
  promote(nowMs: number, limit: number): Promise<MovedTask[]>
  /** Queued and delayed tasks past their deadline expire. */
  expire(nowMs: number, limit: number): Promise<MovedTask[]>
  /** Running tasks whose lease is over: queued again, or dead when no attempt is left, or cancelled when that was asked. */
  rescue(nowMs: number, limit: number): Promise<MovedTask[]>
  /** When the next delayed task or deadline falls due; null when none does. */
  nextDueMs(): Promise<number | null>
}

export type BatchResult = {
  id: string
  position: number
  status: TaskStatus
  result: Uint8Array | null
  error: TaskError | null
  usage: TaskUsage | null
}
