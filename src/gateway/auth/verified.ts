import type { Caller } from './caller.ts'

/** What was found out about a credential, and for how long that may be believed. */
export type Verified = {
  caller: Caller
  /** Wall-clock; Infinity for never. */
  expiresAtMs: number
  /** Whose token it is; null for a key. */
  issuer: string | null
}
