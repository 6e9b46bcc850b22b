import { fits, levelAt, makeBucket, takeFrom, withRule, type Bucket, type Rule } from './bucket.ts'

/** One limited rate, wherever its count is kept. */
export interface Meter {
  readonly rule: Rule
  /** Units that may be taken now, without asking anybody. */
  left(nowMs: number): number
  /** Units that there are as far as is known here: others may have taken some of them meanwhile. */
  levelAt(nowMs: number): number
  /** Takes units that are left. */
  take(units: number, nowMs: number): void
  /** Counts what was used beyond what was taken; negative gives back. */
  correct(units: number, nowMs: number): void
  configure(rule: Rule, nowMs: number): void
  /** True when forgetting it changes nothing. */
  isIdle(nowMs: number): boolean
  /** It will not be used any more. */
  forget(): void
}

/** Requests under way, wherever they are counted. */
export interface Slots {
  /** 0 for no limit; they are counted all the same, for it may be set while they run. */
  readonly limit: number
  isFree(nowMs: number): boolean
  take(nowMs: number): void
  leave(nowMs: number): void
  configure(limit: number): void
  /** True when forgetting them changes nothing. */
  isIdle(nowMs: number): boolean
  /** They will not be used any more. */
  forget(): void
}

/** What makes the meters: of this process alone, or shared. */
export type Meters = {
  makeMeter(key: string, rule: Rule, nowMs: number): Meter
  makeSlots(key: string, limit: number): Slots
}

class LocalMeter implements Meter {
  #bucket: Bucket

  constructor(rule: Rule, nowMs: number) {
    this.#bucket = makeBucket(rule, nowMs)
  }

  get rule(): Rule {
    return this.#bucket
  }
  left(nowMs: number): number {
    return levelAt(this.#bucket, nowMs)
  }
  levelAt(nowMs: number): number {
    return levelAt(this.#bucket, nowMs)
  }
  take(units: number, nowMs: number): void {
    takeFrom(this.#bucket, units, nowMs)
  }
  correct(units: number, nowMs: number): void {
    takeFrom(this.#bucket, units, nowMs)
  }
  configure(rule: Rule, nowMs: number): void {
    this.#bucket = withRule(this.#bucket, rule, nowMs)
  }
  isIdle(nowMs: number): boolean {
    return fits(levelAt(this.#bucket, nowMs), this.#bucket.capacity)
  }
  forget(): void {}
}

class LocalSlots implements Slots {
  limit: number
  #taken = 0

  constructor(limit: number) {
    this.limit = limit
  }

  isFree(): boolean {
    return this.limit === 0 || this.#taken < this.limit
  }
  take(): void {
    this.#taken += 1
  }
  leave(): void {
    this.#taken -= 1
  }
  configure(limit: number): void {
    this.limit = limit
  }
  isIdle(): boolean {
    return this.#taken === 0
  }
  forget(): void {}
}

/** Counts kept in this process. */
export const localMeters: Meters = {
  makeMeter: (_key, rule, nowMs) => new LocalMeter(rule, nowMs),
  makeSlots: (_key, limit) => new LocalSlots(limit),
}
