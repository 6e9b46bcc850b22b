import type { TaskStatus } from './task-states.ts'
import type { BatchResult, TaskError, TaskEvent, TaskRow, TaskUsage } from './task-store.ts'

/** The columns that both drivers keep alike, and what they are to callers. Each driver decodes what only it stores so. */

export type ErrorColumns = { error_code: string | null; error_message: string | null }
export type UsageColumns = {
  prompt_tokens: number | null
  completion_tokens: number | null
  cached_tokens: number | null
}

export const toError = (row: ErrorColumns): TaskError | null =>
  row.error_code === null ? null : { code: row.error_code, message: row.error_message ?? '' }

export const toUsage = (row: UsageColumns): TaskUsage | null =>
  row.prompt_tokens === null
    ? null
    : {
        promptTokens: row.prompt_tokens,
        completionTokens: row.completion_tokens ?? 0,
        cachedTokens: row.cached_tokens ?? 0,
      }

export type SharedTaskColumns = {
  id: string
  tenant: string
  endpoint: string
  model: string
  band: number
  attempt: number
  attempts_max: number
  created_at: number
  run_at: number | null
  deadline_at: number | null
  started_at: number | null
  finished_at: number | null
  parent: string | null
  position: number | null
} & ErrorColumns &
  UsageColumns

type DecodedColumns = Pick<TaskRow, 'status' | 'cancelRequested' | 'notify' | 'metadata'>

export const toTaskRow = (row: SharedTaskColumns, decoded: DecodedColumns): TaskRow => ({
  id: row.id,
  tenant: row.tenant,
  endpoint: row.endpoint,
  model: row.model,
  band: row.band,
  status: decoded.status,
  attempt: row.attempt,
  attemptsMax: row.attempts_max,
  createdAtMs: row.created_at,
  runAtMs: row.run_at,
  deadlineMs: row.deadline_at,
  startedAtMs: row.started_at,
  finishedAtMs: row.finished_at,
  cancelRequested: decoded.cancelRequested,
  parent: row.parent,
  position: row.position,
  notify: decoded.notify,
  metadata: decoded.metadata,
  error: toError(row),
  usage: toUsage(row),
})

export type SharedEventColumns = {
  seq: number
  at: number
  attempt: number
  instance: string | null
} & ErrorColumns

export const toTaskEvent = (row: SharedEventColumns, status: TaskStatus): TaskEvent => ({
  seq: row.seq,
  atMs: row.at,
  status,
  attempt: row.attempt,
  error: toError(row),
  instance: row.instance,
})

/** The submission is not stored as an event: the task itself tells when it came, and in which state. */
export const firstEvent = (atMs: number, born: TaskStatus): TaskEvent => ({
  seq: 1,
  atMs,
  status: born,
  attempt: 0,
  error: null,
  instance: null,
})

export type SharedResultColumns = { id: string; position: number; result: Uint8Array | null } & ErrorColumns &
  UsageColumns

export const toBatchResult = (row: SharedResultColumns, status: TaskStatus): BatchResult => ({
  id: row.id,
  position: row.position,
  status,
  result: row.result,
  error: toError(row),
  usage: toUsage(row),
})
