/**
 * The arithmetic of token buckets: a level that rises by a rate up to a capacity, and that is taken from. A unit is a
 * request or a token. Over any interval no more is taken than `capacity + rate * time`, whatever the order.
 */

export type Rule = {
  /** Units that may be taken at once: the burst. */
  readonly capacity: number
  /** Units that come back in a millisecond. */
  readonly rate: number
}

export type Bucket = Rule & { level: number; atMs: number }

/** Sums of fractions are off by their last bits: what is missing by less counts as there. */
export const slack = 1e-6
/** Of that, what is left for the sums of one who comes back after the time that it was told. */
const margin = slack / 1_000
/** What was used beyond its estimate is owed; more than an hour's worth is forgiven. */
const debtMs = 3_600_000

/** `burstMs` of a rate may come at once, and one unit always: a limit that lets nothing through is no rate. */
export function makeRule(perMinute: number, burstMs: number): Rule {
  const rate = perMinute / 60_000
  return { rate, capacity: Math.max(1, rate * burstMs) }
}

export const makeBucket = (rule: Rule, nowMs: number): Bucket => ({
  ...{ capacity: rule.capacity, rate: rule.rate },
  ...{ level: rule.capacity, atMs: nowMs },
})

export const debtMaxOf = ({ capacity, rate }: Rule): number => Math.max(capacity, rate * debtMs)

/** What is there at `nowMs`; below zero, what is owed. */
export function levelAt({ capacity, rate, level, atMs }: Bucket, nowMs: number): number {
  const refilled = nowMs > atMs ? level + (nowMs - atMs) * rate : level
  return refilled < capacity ? refilled : capacity
}

/** More than a bucket holds is never there at once: such a request is let through by a full bucket, and empties it. */
export const needOf = ({ capacity }: Rule, units: number): number => (units < capacity ? units : capacity)

export const fits = (level: number, need: number): boolean => level >= need - slack

/** Whole milliseconds until `need` is there: 0 when it is. */
export function waitMs(level: number, need: number, rate: number): number {
  if (fits(level, need)) return 0
  return Math.max(1, Math.ceil((need - level - slack + margin) / rate))
}

/** Takes units that the caller knows to be there, or that were used already; negative ones are given back. */
export function takeFrom(bucket: Bucket, units: number, nowMs: number): void {
  const level = Math.min(bucket.capacity, levelAt(bucket, nowMs) - units)
  bucket.level = Math.max(level, -debtMaxOf(bucket))
  bucket.atMs = Math.max(bucket.atMs, nowMs)
}

/** Takes from all or from none: 0, or how long until all have what is needed. */
export function takeAll(buckets: readonly Bucket[], units: readonly number[], nowMs: number): number {
  let longestMs = 0
  for (let i = 0; i < buckets.length; i += 1) {
    const bucket = buckets[i] as Bucket
    const need = needOf(bucket, units[i] ?? 0)
    longestMs = Math.max(longestMs, waitMs(levelAt(bucket, nowMs), need, bucket.rate))
  }
  if (longestMs > 0) return longestMs
  for (let i = 0; i < buckets.length; i += 1) {
    const bucket = buckets[i] as Bucket
    takeFrom(bucket, needOf(bucket, units[i] ?? 0), nowMs)
  }
  return 0
}

/** The bucket under another rule: what was used stays used. */
export function withRule(bucket: Bucket, rule: Rule, nowMs: number): Bucket {
  const used = bucket.capacity - levelAt(bucket, nowMs)
  const level = Math.max(rule.capacity - used, -debtMaxOf(rule))
  return { capacity: rule.capacity, rate: rule.rate, level, atMs: nowMs }
}
