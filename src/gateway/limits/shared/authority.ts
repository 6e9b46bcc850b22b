/**
 * Where several servers keep limits together: Redis, or the first process of a machine. It knows buckets and slots by
 * their keys and nothing of tenants; a server asks it for leases and spends them without asking again.
 *
 * What holds at any moment: the level of a bucket and all leases that may still be spent are together no more than its
 * capacity. So no interval of whatever length sees more than `capacity + rate * time` over all servers. A lease that
 * is not given back ends by itself and counts as spent.
 */
export interface Authority {
  /** For messages, such as `Redis at 10.0.0.7:6379`. */
  readonly title: string
  /** Connects; rejects when that can't be done. */
  open(signal: AbortSignal): Promise<void>
  /** One round trip. Rejects when no answer comes; what it was asked may have been done all the same. */
  decide(ask: Ask): Promise<Answer>
  /** Gives up the connection at once, whatever waits on it. */
  close(): void
}

/** A server's word on a bucket, and what it wants of it. Units are requests or tokens. */
export type BucketItem = {
  kind: 'bucket'
  key: string
  capacity: number
  /** Units that come back in a millisecond. */
  rate: number
  debtMax: number
  /** Of the lease, spent since it was last told. */
  spent: number
  /** How long ago the last of that was spent, in ms: since then it stands in the way of no refill. */
  spentAgoMs: number
  /** Of the lease, given back. */
  back: number
  /** Used without a lease; negative gives back. */
  debit: number
  /** The smallest lease that is of use, what is needed for all who wait, and what would be liked. */
  least: number
  need: number
  want: number
}

/** A server's word on requests under way. */
export type SlotsItem = {
  kind: 'slots'
  key: string
  limit: number
  /** Slots that it keeps, those in use among them. */
  held: number
  need: number
  want: number
}

export type AskItem = BucketItem | SlotsItem

export type Ask = {
  /** The server that asks; asking keeps it among the living for `replicaTtlMs`. */
  replica: string
  /** It goes: it is not to be counted among the living any more. */
  bye: boolean
  items: readonly AskItem[]
}

export type Result = {
  granted: number
  /** The whole lease after that, or all slots that are held. */
  held: number
  /** Units, or free slots, that are left for all. */
  level: number
}

export type Answer = {
  /** Servers that are alive. */
  replicas: number
  /** False when this one was not among them: what it held is forgotten. */
  known: boolean
  /** In the order of the items; null for one that there is no room for: it was not decided on. */
  results: readonly (Result | null)[]
}

/** How long a lease may be spent, by the authority's clock. */
export const leaseMs = 1_000
/** A server that is silent for so long is dead, and its slots are free. */
export const replicaTtlMs = 5_000
/** Slots that nobody tells of for so long are forgotten; servers tell of theirs far more often. */
export const slotsTtlMs = 120_000
/** A key outlives the moment at which it says nothing more by this. */
export const spareTtlMs = 1_000
