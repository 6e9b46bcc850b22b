import {
  debtMaxOf,
  fits,
  levelAt,
  makeBucket,
  needOf,
  takeFrom,
  withRule,
  type Bucket,
  type Rule,
} from '../bucket.ts'
import type { Meter } from '../meter.ts'
import { leaseMs, type BucketItem, type Result } from './authority.ts'
import {
  everything,
  extraShare,
  flowMs,
  idleMs,
  leadMs,
  leaseShare,
  viewMs,
  type Leased,
  type LinkState,
} from './leased.ts'

/** The shortest time over which a flow is measured: the first two asks may follow at once. */
const flowMsMin = 20

/** What a server goes on with while the authority is away. */
type OwnShare = {
  outage: number
  bucket: Bucket
  /** The same, had nothing been used: the difference is what the authority does not know of. */
  unused: Bucket
}

/** One bucket of the authority, as one server sees it: a lease to spend, and the level when it was last told. */
export class LeasedMeter implements Meter, Leased {
  isQueued = false
  readonly #link: LinkState
  readonly #key: string
  #rule: Rule
  /** What the lease still holds; worth nothing after `#untilMs`, nor after an outage. */
  #lease = 0
  #leasedIn = 0
  #untilMs = -Infinity
  #usedAtMs = -Infinity
  /** Spent of the lease and not told yet. */
  #spent = 0
  /** Used beyond leases and not told yet; negative gives back. */
  #debit = 0
  #toldDebit = 0
  #view: Bucket
  #viewedAtMs = -Infinity
  #own: OwnShare | null = null
  /** Of those who wait: the smallest need, and all together. */
  #least = Infinity
  #need = 0
  #extra = 0
  #composedAtMs = -Infinity
  #spentSince = 0

  constructor(link: LinkState, key: string, rule: Rule, nowMs: number) {
    this.#link = link
    this.#key = key
    this.#rule = rule
    this.#view = makeBucket(rule, nowMs)
  }

  get rule(): Rule {
    return this.#rule
  }

  left(nowMs: number): number {
    if (this.#link.isDown) return levelAt(this.#ownShare(nowMs).bucket, nowMs)
    return this.#isLeased(nowMs) ? this.#lease : 0
  }

  levelAt(nowMs: number): number {
    if (this.#link.isDown) return this.left(nowMs)
    return Math.min(this.#rule.capacity, levelAt(this.#view, nowMs) + this.left(nowMs))
  }

  /** False while what was last heard says that asking is of no use. */
  isWorthAsking(units: number, nowMs: number): boolean {
    return nowMs - this.#viewedAtMs > viewMs || fits(this.levelAt(nowMs), needOf(this.#rule, units))
  }

  /** Somebody waits for so many units. */
  want(units: number): void {
    this.#least = Math.min(this.#least, units)
    this.#need += units
    this.#link.askFor(this)
  }

  take(units: number, nowMs: number): void {
    this.#usedAtMs = nowMs
    if (this.#link.isDown) {
      takeFrom(this.#ownShare(nowMs).bucket, units, nowMs)
      return
    }
    this.#lease = Math.max(0, this.#lease - units)
    this.#spent += units
    this.#spentSince += units
    // In a steady flow the next lease is on its way before this one is spent, and nobody waits for it.
    if (this.#lease < this.#extra / 4 && !this.isQueued) this.#link.askFor(this)
  }

  correct(units: number, nowMs: number): void {
    if (this.#link.isDown) {
      takeFrom(this.#ownShare(nowMs).bucket, units, nowMs)
      return
    }
    this.#debit += units
    takeFrom(this.#view, units, nowMs)
    this.#link.tell(this)
  }

  configure(rule: Rule, nowMs: number): void {
    this.#rule = rule
    this.#view = withRule(this.#view, rule, nowMs)
    // Whoever comes next with its own share finds it made anew.
    if (this.#own !== null) this.#endOwnShare(nowMs)
  }

  isIdle(nowMs: number): boolean {
    if (this.#link.isDown) return this.#isFull(nowMs)
    const isTold = this.#debit === 0 && this.#own === null && !this.isQueued
    return isTold && !this.isHolding(nowMs) && nowMs - this.#usedAtMs > leaseMs
  }

  forget(): void {
    this.#link.forget(this)
  }

  compose(nowMs: number): BucketItem {
    const { capacity, rate } = this.#rule
    const passedMs = nowMs - this.#composedAtMs
    const flow = passedMs > flowMs ? 0 : this.#spentSince / Math.max(flowMsMin, passedMs)
    const wants = this.#need > 0 || this.#extra > 0
    // Of a lease from before an outage it was never told what was spent: it ends.
    if (this.#leasedIn !== this.#link.outage) this.#spent = everything
    const back = this.#takeBack(nowMs)
    this.#extra = back > 0 ? 0 : Math.min(capacity * extraShare, flow * leadMs)
    const item: BucketItem = {
      ...{ kind: 'bucket', key: this.#key, capacity, rate, debtMax: debtMaxOf(this.#rule) },
      ...{
        spent: this.#spent,
        spentAgoMs: this.#spent === everything ? 0 : Math.max(0, nowMs - this.#usedAtMs),
      },
      ...{ back, debit: this.#debit },
      ...{ least: this.#need > 0 ? this.#least : 0, need: this.#need },
      want: wants && back === 0 ? this.#need + this.#extra : this.#need,
    }
    this.#toldDebit = this.#debit
    this.#spent = this.#debit = this.#need = this.#spentSince = 0
    this.#least = Infinity
    this.#composedAtMs = nowMs
    return item
  }

  apply({ held, level }: Result, sentAtMs: number, nowMs: number): void {
    // What was spent while the ask was under way came out of what the authority counts as held.
    this.#lease = Math.max(0, held - this.#spent)
    this.#leasedIn = this.#link.outage
    this.#untilMs = sentAtMs + leaseMs * leaseShare
    this.#toldDebit = 0
    this.#view = {
      capacity: this.#rule.capacity,
      rate: this.#rule.rate,
      level: level - this.#debit,
      atMs: nowMs,
    }
    this.#viewedAtMs = nowMs
    if (this.#lease > 0) this.#link.watch(this)
  }

  lost(): void {
    // Told again if it was to be paid, and not if it was to be given back: the worse of both is safe.
    this.#debit += Math.max(0, this.#toldDebit)
    this.#toldDebit = this.#need = 0
    this.#least = Infinity
    if (this.#debit !== 0) this.#link.remember(this)
  }

  cameBack(nowMs: number): void {
    this.#endOwnShare(nowMs)
    this.#extra = 0
    this.#viewedAtMs = -Infinity
    if (this.#debit !== 0) this.#link.tell(this)
  }

  isDue(nowMs: number): boolean {
    // Until it is told, what was spent keeps the bucket from being refilled to its brim.
    return this.#isLeased(nowMs) && (this.#spent > 0 || this.#isUnused(nowMs))
  }

  isHolding(nowMs: number): boolean {
    return (this.#lease > 0 || this.#spent > 0) && this.#isLeased(nowMs)
  }

  #isUnused(nowMs: number): boolean {
    return this.#lease > 0 && nowMs - this.#usedAtMs > idleMs
  }

  #isLeased(nowMs: number): boolean {
    return nowMs < this.#untilMs && this.#leasedIn === this.#link.outage
  }

  /** What is left of a lease that nobody uses. */
  #takeBack(nowMs: number): number {
    if (this.#need > 0 || !this.#isLeased(nowMs) || !this.#isUnused(nowMs)) return 0
    const back = this.#lease
    this.#lease = 0
    return back
  }

  /**
   * While the authority is away: whether all that was used has come back. Then it has come back of the authority's bucket
   * too, and what it was not told of would change nothing.
   */
  #isFull(nowMs: number): boolean {
    if (!fits(levelAt(this.#view, nowMs), this.#view.capacity)) return false
    if (this.#own === null || this.#own.outage !== this.#link.outage) return nowMs >= this.#untilMs
    return fits(levelAt(this.#own.bucket, nowMs), this.#own.bucket.capacity)
  }

  #ownShare(nowMs: number): OwnShare {
    const { outage, replicas } = this.#link
    if (this.#own !== null && this.#own.outage === outage) return this.#own
    const rule = {
      rate: this.#rule.rate / replicas,
      capacity: Math.min(this.#rule.capacity, Math.max(1, this.#rule.capacity / replicas)),
    }
    // The lease was of the outage before this one: it is the last that was heard.
    const lease = nowMs < this.#untilMs && this.#leasedIn === outage - 1 ? this.#lease : 0
    const level = Math.min(rule.capacity, levelAt(this.#view, nowMs) / replicas + lease)
    this.#lease = 0
    const bucket = { ...rule, level, atMs: nowMs }
    this.#own = { outage, bucket, unused: { ...bucket } }
    this.#link.remember(this)
    return this.#own
  }

  /** What came back of the share by itself meanwhile came back of the authority's bucket too: only the rest is owed. */
  #endOwnShare(nowMs: number): void {
    if (this.#own === null) return
    const owed = levelAt(this.#own.unused, nowMs) - levelAt(this.#own.bucket, nowMs)
    this.#debit += owed
    takeFrom(this.#view, owed, nowMs)
    this.#own = null
  }
}
