import { toError, toUsage, type ErrorColumns, type UsageColumns } from '../outcome-columns.ts'
import type { TaskEvent, TaskRow } from '../task-store.ts'
import type { TaskStatus } from '../task-states.ts'

/** The columns that a `TaskRow` is made of, of a table called `t`. */
export const taskColumns = `
  t.id, t.tenant, t.endpoint, t.model, t.band, t.status, t.attempt, t.attempts_max, t.created_at, t.run_at,
  t.deadline_at, t.started_at, t.finished_at, t.cancel_requested, t.parent, t.position, t.notify, t.metadata,
  t.error_code, t.error_message, t.prompt_tokens, t.completion_tokens, t.cached_tokens`

export type TaskColumns = {
  id: string
  tenant: string
  endpoint: string
  model: string
  band: number
  status: TaskStatus
  attempt: number
  attempts_max: number
  created_at: number
  run_at: number | null
  deadline_at: number | null
  started_at: number | null
  finished_at: number | null
  cancel_requested: boolean
  parent: string | null
  position: number | null
  notify: boolean
  metadata: Record<string, string> | null
} & ErrorColumns &
  UsageColumns

export const toTask = (row: TaskColumns): TaskRow => ({
  id: row.id,
  tenant: row.tenant,
  endpoint: row.endpoint,
  model: row.model,
  band: row.band,
  status: row.status,
  attempt: row.attempt,
  attemptsMax: row.attempts_max,
  createdAtMs: row.created_at,
  runAtMs: row.run_at,
  deadlineMs: row.deadline_at,
  startedAtMs: row.started_at,
  finishedAtMs: row.finished_at,
  cancelRequested: row.cancel_requested,
  parent: row.parent,
  position: row.position,
  notify: row.notify,
  metadata: row.metadata ?? {},
  error: toError(row),
  usage: toUsage(row),
})

/** What tells the part of a task's history that is not written as events. */
export const historyColumns = 't.seq, t.stored_seq, t.born, t.instance'
export type HistoryColumns = { seq: number; stored_seq: number; born: TaskStatus; instance: string | null }

/** The submission: seq 1. */
export const firstEvent = (
  row: Pick<TaskColumns, 'created_at'> & Pick<HistoryColumns, 'born'>,
): TaskEvent => ({
  seq: 1,
  atMs: row.created_at,
  status: row.born,
  attempt: 0,
  error: null,
  instance: null,
})

/** The events behind `stored_seq`: the attempt that runs or ran, and its end when it succeeded. */
export function lastEvents(
  row: Pick<TaskColumns, 'attempt' | 'started_at' | 'finished_at'> & HistoryColumns,
): TaskEvent[] {
  if (row.seq === row.stored_seq) return []
  const { attempt } = row
  const begun: TaskEvent = {
    seq: row.stored_seq + 1,
    atMs: row.started_at ?? 0,
    status: 'running',
    attempt,
    error: null,
    instance: null,
  }
  if (row.seq === row.stored_seq + 1) return [begun]
  const { seq, instance } = row
  return [begun, { seq, atMs: row.finished_at ?? 0, status: 'succeeded', attempt, error: null, instance }]
}

export type EventColumns = {
  seq: number
  at: number
  status: TaskStatus
  attempt: number
  instance: string | null
} & ErrorColumns

export const toEvent = (row: EventColumns): TaskEvent => ({
  seq: row.seq,
  atMs: row.at,
  status: row.status,
  attempt: row.attempt,
  error: toError(row),
  instance: row.instance,
})
