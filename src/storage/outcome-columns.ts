import type { TaskError, TaskUsage } from './task-store.ts'

/** The columns that both drivers keep for an attempt's failure and its usage, and what they are to callers. */

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
