import type { LatencyEstimate } from '../../fleet/instance.ts'

/** What a policy may look at in an instance. `Instance` satisfies it; so does a plain object in a simulation. */
export type Candidate = {
  /** Stays the same over restarts: what a policy remembers of an instance, it remembers under its id. */
  readonly id: string
  /** Relative share, greater than 0. */
  readonly weight: number
  readonly inFlight: number
  /** Bytes of the request bodies that were sent to it and wait for their first byte: the work in front of a newcomer. */
  readonly waitingBytes: number
  readonly latency: Readonly<LatencyEstimate>
}

/** What a policy may look at in a call. */
export type PolicyCall = {
  /** What keeps a conversation together (a header or the `user` field); null when the caller gave none. */
  readonly sessionKey: string | null
  /**
   * Chained hashes of the prompt's blocks: entry i stands for the prompt up to the end of block i. Asked for by
   * `prefix` alone, and again at each failover, so the call computes them late and once; see `prefix-blocks.ts`.
   */
  prefixBlocks(): readonly number[]
}

export type PolicyContext = {
  /** Monotonic milliseconds. */
  readonly nowMs: number
  /** Uniform in [0, 1). */
  random(): number
}

/**
 * Chooses one of `candidates`, which is never empty and holds available instances only. A policy reads nothing but
 * its arguments and writes nothing but its own memory, so a test or a simulation can replay it.
 */
export type Policy = {
  pick<C extends Candidate>(candidates: readonly C[], call: PolicyCall, context: PolicyContext): C
}

/** Makes a policy with a fresh memory; the router keeps one per model. */
export type PolicyFactory = () => Policy
