import type { ErrorCode } from '../core/errors.ts'

/** Everything that is remembered of one request: filled in on its way, written once at its end. */
export type RequestRecord = {
  readonly id: string
  readonly method: string
  /** The route's pattern, such as `/v1/models/:id`; `unmatched` when there is none. */
  readonly endpoint: string
  readonly startedAtMs: number
  status: number
  model: string | null
  instance: string | null
  attempts: number
  stream: boolean
  promptTokens: number | null
  cachedTokens: number | null
  completionTokens: number | null
  /** From the request's arrival to the first byte of its answer. */
  ttftMs: number | null
  error: ErrorCode | null
  /** The start of the prompt; only when the operator asked for prompts in the log. */
  prompt: string | undefined
  done: boolean
  /** Told when the client hangs up before its answer is complete. */
  onAbandoned: (() => void) | null
}
