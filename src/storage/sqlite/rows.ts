import { toTaskEvent, toTaskRow, type SharedEventColumns, type SharedTaskColumns } from '../task-columns.ts'
import type { TaskEvent, TaskRow } from '../task-store.ts'
import { toStatus } from './statuses.ts'

/** The columns of a task as callers see it. */
export const taskColumns = `
  t.n, t.id, t.tenant, t.endpoint, t.model, t.band, t.status, t.attempt, t.attempts_max, t.created_at, t.run_at,
  t.deadline_at, t.started_at, t.finished_at, t.cancel_requested, t.parent, t.position, t.notify, t.seq, t.born,
  p.metadata, r.error_code, r.error_message, r.prompt_tokens, r.completion_tokens, r.cached_tokens`

export const taskTables = `tasks t JOIN payloads p ON p.n = t.n LEFT JOIN results r ON r.n = t.n`

export type FullRow = SharedTaskColumns & {
  n: number
  status: number
  cancel_requested: number
  notify: number
  seq: number
  born: number
  metadata: string | null
}

export const toTask = (row: FullRow): TaskRow =>
  toTaskRow(row, {
    status: toStatus(row.status),
    cancelRequested: row.cancel_requested === 1,
    notify: row.notify === 1,
    metadata: toMetadata(row.metadata),
  })

/** Kept as JSON; null for none. */
export const toMetadata = (json: string | null): TaskRow['metadata'] =>
  json === null ? {} : (JSON.parse(json) as Record<string, string>)

export type EventColumns = SharedEventColumns & { status: number }

export const toEvent = (row: EventColumns): TaskEvent => toTaskEvent(row, toStatus(row.status))
