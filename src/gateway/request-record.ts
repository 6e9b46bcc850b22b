import type { ErrorCode } from '../core/errors.ts'
import type { Pass } from './limits/limiter.ts'
import type { Caller } from './auth/caller.ts'

/**
 * `hit`: the answer was there already, or on its way to an equal call. `miss`: a model answered, and whoever asks the
 * same again may get the same answer. `bypass`: the cache took no part.
 */
export type CacheResult = 'hit' | 'miss' | 'bypass'

/** Everything that is remembered of one request: filled in on its way, written once at its end. */
export type RequestRecord = {
  readonly id: string
  readonly method: string
  /** The route's pattern, such as `/v1/models/:id`; `unmatched` when there is none. */
  readonly endpoint: string
  readonly startedAtMs: number
  /** Who asks; `nobody` until that is known, and on routes that are for all. */
  caller: Caller
  /** What the limits gave it; null where none were asked, or it was refused. */
  pass: Pass | null
  status: number
  model: string | null
  instance: string | null
  attempts: number
  stream: boolean
  promptTokens: number | null
  cachedTokens: number | null
  completionTokens: number | null
  /** Tokens of the prompt by its length; 0 until it is known. */
  promptEstimate: number
  /** Events of the stream that have come from the instance, or pieces of several. */
  events: number
  /** From the request's arrival to the first byte of its answer. */
  ttftMs: number | null
  error: ErrorCode | null
  /** What the cache had to do with the answer; null on routes that no model answers. */
  cache: CacheResult | null
  /** How old a cached answer is; null when the answer is none. */
  cacheAgeMs: number | null
  /** The start of the prompt; only when the operator asked for prompts in the log. */
  prompt: string | undefined
  done: boolean
  /** Told when the client hangs up before its answer is complete. */
  onAbandoned: (() => void) | null
}
