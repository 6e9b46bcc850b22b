import { toError, toUsage, type ErrorColumns, type UsageColumns } from '../outcome-columns.ts'
import type { TaskEvent, TaskRow } from '../task-store.ts'
import { toStatus } from './statuses.ts'

/** The columns of a task as callers see it. */
export const taskColumns = `
  t.n, t.id, t.tenant, t.endpoint, t.model, t.band, t.status, t.attempt, t.attempts_max, t.created_at, t.run_at,
  t.deadline_at, t.started_at, t.finished_at, t.cancel_requested, t.parent, t.position, t.notify, t.seq, t.born,
  p.metadata, r.error_code, r.error_message, r.prompt_tokens, r.completion_tokens, r.cached_tokens`

export const taskTables = `tasks t JOIN payloads p ON p.n = t.n LEFT JOIN results r ON r.n = t.n`

export type FullRow = {
  n: number
  id: string
  tenant: string
  endpoint: string
  model: string
  band: number
  status: number
  attempt: number
  attempts_max: number
  created_at: number
  run_at: number | null
  deadline_at: number | null
  started_at: number | null
  finished_at: number | null
  cancel_requested: number
  parent: string | null
  position: number | null
  notify: number
  seq: number
  born: number
  metadata: string | null
} & ErrorColumns &
  UsageColumns

export const toTask = (row: FullRow): TaskRow => ({
  id: row.id,
  tenant: row.tenant,
  endpoint: row.endpoint,
  model: row.model,
  band: row.band,
  status: toStatus(row.status),
  attempt: row.attempt,
  attemptsMax: row.attempts_max,
  createdAtMs: row.created_at,
  runAtMs: row.run_at,
  deadlineMs: row.deadline_at,
  startedAtMs: row.started_at,
  finishedAtMs: row.finished_at,
  cancelRequested: row.cancel_requested === 1,
  parent: row.parent,
  position: row.position,
  notify: row.notify === 1,
  metadata: row.metadata === null ? {} : (JSON.parse(row.metadata) as Record<string, string>),
  error: toError(row),
  usage: toUsage(row),
})

export type EventColumns = {
  seq: number
  at: number
  status: number
  attempt: number
  instance: string | null
} & ErrorColumns

export const toEvent = (row: EventColumns): TaskEvent => ({
  seq: row.seq,
  atMs: row.at,
  status: toStatus(row.status),
  attempt: row.attempt,
  error: toError(row),
  instance: row.instance,
})

/** The submission is not stored as an event: the task itself tells when it came, and in which state. */
export const firstEvent = (row: Pick<FullRow, 'created_at' | 'born'>): TaskEvent => ({
  seq: 1,
  atMs: row.created_at,
  status: toStatus(row.born),
  attempt: 0,
  error: null,
  instance: null,
})
