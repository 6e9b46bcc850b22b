import { toTaskEvent, toTaskRow, type SharedEventColumns, type SharedTaskColumns } from '../task-columns.ts'
import type { TaskEvent, TaskRow } from '../task-store.ts'
import type { TaskStatus } from '../task-states.ts'

/** The columns that a `TaskRow` is made of, of a table called `t`. */
export const taskColumns = `
  t.id, t.tenant, t.endpoint, t.model, t.band, t.status, t.attempt, t.attempts_max, t.created_at, t.run_at,
  t.deadline_at, t.started_at, t.finished_at, t.cancel_requested, t.parent, t.position, t.notify, t.metadata,
  t.error_code, t.error_message, t.prompt_tokens, t.completion_tokens, t.cached_tokens`

export type TaskColumns = SharedTaskColumns & {
  status: TaskStatus
  cancel_requested: boolean
  notify: boolean
  metadata: Record<string, string> | null
}

export const toTask = (row: TaskColumns): TaskRow =>
  toTaskRow(row, {
    status: row.status,
    cancelRequested: row.cancel_requested,
    notify: row.notify,
    metadata: row.metadata ?? {},
  })

/** What tells the part of a task's history that is not written as events. */
export const historyColumns = 't.seq, t.stored_seq, t.born, t.instance'
export type HistoryColumns = { seq: number; stored_seq: number; born: TaskStatus; instance: string | null }

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

export type EventColumns = SharedEventColumns & { status: TaskStatus }

export const toEvent = (row: EventColumns): TaskEvent => toTaskEvent(row, row.status)
