import type { serviceTiers } from '../config/schema.ts'
import type { PolicyCall } from './policies/policy.ts'

/** Who asks, and how urgently: what decides when a live request is let in. */
export type Ask = {
  readonly tenant: string
  /** Share of the tenant beside others; greater than 0, 1 is the usual. */
  readonly weight: number
  readonly tier: (typeof serviceTiers)[number]
  /** Monotonic milliseconds at which the first byte is of no more use; null for never. */
  readonly deadlineMs: number | null
  /** Estimated tokens of prompt and answer. */
  readonly tokens: number
}

/** Where nobody has said who asks. */
export const plainAsk: Ask = { tenant: 'default', weight: 1, tier: 'default', deadlineMs: null, tokens: 1 }

/** A request for a model, as the router needs to know it. Whoever makes it knows the body; the router does not. */
export type Call = PolicyCall & {
  readonly id: string
  /** Below the endpoint's base, such as `/chat/completions`. */
  readonly path: string
  /** The model as the caller named it: a model or an alias. */
  readonly model: string
  /** Whether the caller asked for server-sent events. */
  readonly stream: boolean
  /** Headers that go along to the instance: name, value, name, value, … */
  readonly headers: readonly string[]
  /** Left out where nobody has said: then it is nobody's, of the default tier. */
  readonly ask?: Ask
  /** The bytes to send to an instance that knows the model as `upstreamModel`. */
  bodyFor(upstreamModel: string): Buffer
}

/**
 * Receives the answer to a call. `head` is the commitment: before it the call may move to another instance and the
 * sink hears nothing of that; after it there is only more data, and then `end` or the error thrown by `router.run`.
 */
export type Sink = {
  head(head: AnswerHead): void
  /** Whole JSON text, or whole events of a stream. False asks for a pause until `resume` is called. */
  data(chunk: Buffer, resume: () => void): boolean
  end(): void
  /** Told by the router, whatever the way out, once and last: the call is over. Null, or what `router.run` throws. */
  settled?(thrown: unknown): void
}

export type AnswerHead = {
  status: number
  contentType: string
  instance: { readonly id: string }
  /** The public model that answered: the one asked for, or a fallback. */
  model: string
  /** Length of the body where it is known, else null: then it comes in chunks. */
  contentLength: number | null
  /** Instances that were tried, this one included; 0 for an answer that is given again. */
  attempts: number
  /** What the instance itself asks its caller to wait, in seconds; null for nothing. */
  retryAfter: string | null
}
