import { readTokenCount } from '../router/calls/token-count.ts'
import type { TaskUsage } from '../storage/task-store.ts'

type UsageFields = {
  prompt_tokens?: unknown
  completion_tokens?: unknown
  /** As `/v1/responses` names them. */
  input_tokens?: unknown
  output_tokens?: unknown
  prompt_tokens_details?: { cached_tokens?: unknown } | null
  input_tokens_details?: { cached_tokens?: unknown } | null
}

/** The usage of an answer, or null where the instance tells none. A count that is no count is 0. */
export function readUsage(answer: unknown): TaskUsage | null {
  const usage = (answer as { usage?: UsageFields | null } | null)?.usage
  if (typeof usage !== 'object' || usage === null) return null
  const count = (value: unknown) => readTokenCount(value) ?? 0
  const details = usage.prompt_tokens_details ?? usage.input_tokens_details
  return {
    promptTokens: count(usage.prompt_tokens ?? usage.input_tokens),
    completionTokens: count(usage.completion_tokens ?? usage.output_tokens),
    cachedTokens: count(details?.cached_tokens),
  }
}
