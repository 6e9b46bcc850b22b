/** The part of the port that keeps what was used. Sums, and nothing of a single request. */

export const hourMs = 3_600_000
export const dayMs = 86_400_000

/** How long hours are kept: thirteen months, so that a month can be compared with the same one a year ago. */
export const usageKeptMs = 400 * dayMs
/** A writer that has written nothing for so long is forgotten: nobody tries a batch again after such a time. */
export const usageWritersKeptMs = 30 * dayMs

type UsageSums = {
  /** Answered. */
  requests: number
  /** Refused, failed or broken off. */
  failedRequests: number
  promptTokens: number
  /** Part of `promptTokens`. */
  cachedTokens: number
  completionTokens: number
  /** Time of answering, in ms. */
  busyMs: number
  /** In the currency of the prices. */
  cost: number
}

/** What one tenant used of one model by one key in one hour. */
export type UsageRow = UsageSums & {
  /** When the hour begins, in ms since the epoch: a multiple of `hourMs`. */
  hourAtMs: number
  tenant: string
  /** The id of a key; empty for none. */
  key: string
  model: string
}

/** Rows that are added together, once. */
export type UsageBatch = {
  /** Who counts: another one after every start of a process. */
  writer: string
  /** Counts up with each batch of a writer. A batch that may have been applied is given again with its own number. */
  sequence: number
  nowMs: number
  rows: readonly UsageRow[]
}

export const usageWidths = ['hour', 'day', 'month', 'all'] as const
export type UsageWidth = (typeof usageWidths)[number]

export const usageGroups = ['tenant', 'key', 'model'] as const
export type UsageGroup = (typeof usageGroups)[number]

/** Where a sum stands in their order. */
export type UsagePlace = { atMs: number; tenant: string; key: string; model: string }

export type UsageQuery = {
  /** Hours that begin at or after this. */
  fromMs: number
  /** Hours that begin before this. */
  toMs: number
  width: UsageWidth
  groups: readonly UsageGroup[]
  tenant?: string
  key?: string
  model?: string
  /** Only sums behind this one. */
  after?: UsagePlace
  limit: number
}

/** `atMs` is when the hour, day or month begins (UTC), 0 for `all`; names that were not asked for are empty. */
export type UsageSum = UsagePlace & UsageSums

/** What a tenant has spent in a day (UTC). */
export type DayCost = { tenant: string; dayAtMs: number; cost: number }

export interface UsageStore {
  /**
   * Adds a batch, all of it or nothing. Adds nothing when the writer's batch of this or a later number was applied
   * before: who does not know what became of a batch gives it again.
   */
  add(batch: UsageBatch): Promise<void>
  /** In the order of their times, then of their names. */
  sum(query: UsageQuery): Promise<UsageSum[]>
  /** What these tenants have spent, by day, on and after the day that begins at `fromMs`. */
  costs(tenants: readonly string[], fromMs: number): Promise<DayCost[]>
}
