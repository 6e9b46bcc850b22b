import { fits, needOf, type Rule } from '../bucket.ts'
import type { Cost } from '../cost.ts'
import type { Meters } from '../meter.ts'
import type { Scope } from '../scope.ts'
import { LeasedMeter } from './leased-meter.ts'
import { LeasedSlots } from './leased-slots.ts'
import type { Link, Want } from './link.ts'

/** Meters whose counts are kept by an authority that several servers share. */
export class SharedMeters implements Meters {
  readonly #link: Link

  constructor(link: Link) {
    this.#link = link
  }

  makeMeter(key: string, rule: Rule, nowMs: number): LeasedMeter {
    return new LeasedMeter(this.#link, key, rule, nowMs)
  }

  makeSlots(key: string, limit: number): LeasedSlots {
    return new LeasedSlots(this.#link, key, limit)
  }

  /**
   * Asks the authority for all that this request needs, then calls `decide`. Also for what there is here by now: others
   * may take that meanwhile. Null where asking is of no use: the authority is away, or has just said that there is no more.
   */
  ask<T>(scopes: readonly Scope[], cost: Cost, nowMs: number, decide: () => T): Promise<T> | null {
    if (this.#link.isDown) return null
    const wants: Want[] = []
    for (const { slots, requests, tokens } of scopes) {
      if (slots instanceof LeasedSlots && slots.limit !== 0) {
        if (!slots.isFree() && !slots.isWorthAsking(nowMs)) return null
        wants.push({ leased: slots, want: () => slots.want() })
      }
      for (const [meter, units] of [[requests, cost.requests] as const, [tokens, cost.tokens] as const]) {
        if (!(meter instanceof LeasedMeter)) continue
        const need = needOf(meter.rule, units)
        if (!fits(meter.left(nowMs), need) && !meter.isWorthAsking(need, nowMs)) return null
        if (need > 0) wants.push({ leased: meter, want: () => meter.want(need) })
      }
    }
    return wants.length === 0 ? null : this.#link.wait(wants, decide)
  }
}
