import type { Slots } from '../meter.ts'
import { slotsTtlMs, type Result, type SlotsItem } from './authority.ts'
import { extraShare, flowMs, idleMs, refreshMs, viewMs, type Leased, type LinkState } from './leased.ts'

/** Requests under way on this server, and the slots that it holds for them and for those about to come. */
export class LeasedSlots implements Slots, Leased {
  limit: number
  isQueued = false
  readonly #link: LinkState
  readonly #key: string
  #taken = 0
  #held = 0
  #need = 0
  /** Free slots that are kept between two requests of a steady flow. */
  #spare = 0
  #composedAtMs = -Infinity
  #usedAtMs = -Infinity
  #fullAtMs = -Infinity
  #toldAtMs = -Infinity

  constructor(link: LinkState, key: string, limit: number) {
    this.#link = link
    this.#key = key
    this.limit = limit
  }

  isFree(): boolean {
    if (this.limit === 0) return true
    if (this.#link.isDown) return this.#taken < Math.max(1, Math.floor(this.limit / this.#link.replicas))
    return this.#taken < Math.min(this.#held, this.limit)
  }

  /** False while it was just heard that there is no room. */
  isWorthAsking(nowMs: number): boolean {
    return nowMs - this.#fullAtMs > viewMs
  }

  want(): void {
    this.#need += 1
    this.#link.askFor(this)
  }

  take(nowMs: number): void {
    this.#taken += 1
    this.#usedAtMs = nowMs
    if (this.limit !== 0 && this.#link.isDown) this.#link.remember(this)
  }

  leave(nowMs: number): void {
    this.#taken -= 1
    this.#usedAtMs = nowMs
    if (this.#held > this.#taken + this.#spare && !this.#link.isDown) this.#link.tellNow(this)
  }

  configure(limit: number): void {
    this.limit = limit
  }

  isIdle(nowMs: number): boolean {
    if (this.#taken > 0) return false
    // What is in line stays there for the whole of an outage; what was held is told when it is over, or is forgotten.
    if (this.#link.isDown) return this.#held === 0 || nowMs - this.#toldAtMs > slotsTtlMs
    return this.#held === 0 && !this.isQueued
  }

  forget(): void {
    this.#link.forget(this)
  }

  compose(nowMs: number): SlotsItem {
    const passedMs = nowMs - this.#composedAtMs
    const isSteady = this.#need > 0 && passedMs < flowMs
    const spareMax = Math.floor((this.limit * extraShare) / this.#link.replicas)
    if (this.#need > 0) this.#spare = isSteady ? Math.min(spareMax, this.#spare * 2 + 1) : 0
    else if (nowMs - this.#usedAtMs > idleMs) this.#spare = 0
    // What is under way is held, whatever the authority knew of it; of the rest no more than the spare is kept.
    const kept = this.#need > 0 ? this.#held : Math.min(this.#held, this.#taken + this.#spare)
    this.#held = this.limit === 0 ? 0 : Math.max(this.#taken, kept)
    const item: SlotsItem = {
      ...{ kind: 'slots', key: this.#key, limit: this.limit, held: this.#held },
      ...{ need: this.#need, want: this.#need > 0 ? this.#need + this.#spare : 0 },
    }
    if (this.#need > 0) this.#composedAtMs = nowMs
    this.#toldAtMs = nowMs
    this.#need = 0
    return item
  }

  apply({ granted, level }: Result, _sentAtMs: number, nowMs: number): void {
    this.#held += granted
    this.#fullAtMs = level === 0 && this.#taken >= this.#held ? nowMs : -Infinity
    if (this.#held > 0) this.#link.watch(this)
  }

  lost(): void {
    this.#need = 0
    if (this.#taken > 0) this.#link.remember(this)
  }

  cameBack(): void {
    this.#held = this.limit === 0 ? 0 : this.#taken
    this.#spare = 0
    this.#fullAtMs = -Infinity
    this.#link.tell(this)
  }

  isDue(nowMs: number): boolean {
    if (this.#held > this.#taken && nowMs - this.#usedAtMs > idleMs) return true
    return this.#held > 0 && nowMs - this.#toldAtMs > refreshMs
  }

  isHolding(): boolean {
    return this.#held > 0 || this.#taken > 0
  }
}
