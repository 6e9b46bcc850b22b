import type { AskItem, Result } from './authority.ts'

/** Something that is shared: what it has to tell the authority, and what comes back. */
export interface Leased {
  /** Whether it waits for the next ask, or is being decided on. Set by the link. */
  isQueued: boolean
  /** What it has to say now. What is told is not told again, unless `lost` follows. */
  compose(nowMs: number): AskItem
  apply(result: Result, sentAtMs: number, nowMs: number): void
  /** No answer came: perhaps it was done, perhaps not. */
  lost(): void
  /** The authority is back: what it must be told now is queued. */
  cameBack(nowMs: number): void
  /** Whether it has something to tell by now: what has been of no use for a while, or that it is still there. */
  isDue(nowMs: number): boolean
  /** Whether it holds anything that it must be asked about. */
  isHolding(nowMs: number): boolean
}

/** What a shared meter needs to know of the link to the authority. */
export type LinkState = {
  /** While true the authority is away, and each server goes on with its share. */
  readonly isDown: boolean
  /** Counts the times that it was lost. */
  readonly outage: number
  /** Servers that share, as far as was last known. */
  readonly replicas: number
  /** To be decided on with the next ask, which is sent as soon as the one before is answered. */
  askFor(leased: Leased): void
  /** To be told with the next ask that has room. */
  tellNow(leased: Leased): void
  /** To be told within a quarter of a second. */
  tell(leased: Leased): void
  /** To be called back when the authority is back. */
  remember(leased: Leased): void
  /** Holds something: to be looked at regularly. */
  watch(leased: Leased): void
  /** Will not be used any more: whatever it was noted for, it is not. */
  forget(leased: Leased): void
}

/** A lease is over here when this much of its time has passed since it was asked for: clocks run a bit apart. */
export const leaseShare = 0.9
/** What has not been used for so long is given back: somebody else may need it. */
export const idleMs = 400
/** What is known of the authority's level is believed for so long. */
export const viewMs = 250
/** A lease beyond what is needed now is what so much time will need, if things go on as they do. */
export const leadMs = 200
/** And at most this share of all. */
export const extraShare = 1 / 8
/** Asks that follow one another within this long are a steady flow. */
export const flowMs = 1_000
/** What is held for long is told again, long before it would be forgotten. */
export const refreshMs = 30_000
/** Reported as spent, it ends whatever lease there may be: nobody knows what became of it. */
export const everything = 1e18
