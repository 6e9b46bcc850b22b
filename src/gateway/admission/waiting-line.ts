import { AgedTurns } from '../../queue/order.ts'
import type { Ask } from '../../router/call.ts'
import { Band, type Waiting } from './band.ts'

/** The most urgent first. */
export const tiers = ['priority', 'default', 'flex'] as const satisfies readonly Ask['tier'][]

/** What is left of the longest wait of a tenant whose line has not been empty for as long as that. */
const standingShare = 0.25

/** Of what may be waited, what makes a less urgent band have its turns. */
const agedShare = 0.5

export type Tiered = Waiting & { readonly tier: Ask['tier'] }

/**
 * The line of those who wait for a place: by urgency, and fair within it. A less urgent band has one turn of four as
 * soon as somebody has waited in it for half of what is allowed, as tasks have. When the line is full, the least urgent
 * leave it first, and among equals those of the tenant who has most of them waiting.
 *
 * A burst may wait for as long as is allowed. A line that never empties is no burst, and a long one helps nobody: all
 * wait, and no more are answered. Waits in it are cut to a quarter, tenant by tenant, so it is short when the overload
 * ends. After CoDel (Nichols, Jacobson, 2012, https://queue.acm.org/detail.cfm?id=2209336) as Facebook serves requests
 * with it (Maurer, 2015, https://queue.acm.org/detail.cfm?id=2839461).
 */
export class WaitingLine<W extends Tiered> {
  readonly #bands: Readonly<Record<Ask['tier'], Band<W>>> = {
    priority: new Band(),
    default: new Band(),
    flex: new Band(),
  }
  readonly #agedTurns = new AgedTurns()
  #size = 0

  get size(): number {
    return this.#size
  }

  sizeOf(tier: Ask['tier']): number {
    return this.#bands[tier].size
  }

  *all(): Iterable<W> {
    for (const tier of tiers) yield* this.#bands[tier].all
  }

  /**
   * Lets `newcomer` join. Null when there was room; else who is to leave for it, already taken out: it may be the
   * newcomer itself.
   */
  offer(newcomer: W, waitingMax: number): W | null {
    const displaced = this.#size < waitingMax ? null : this.#chooseDisplaced(newcomer)
    if (displaced === newcomer) return newcomer
    if (displaced) this.delete(displaced)
    this.#bands[newcomer.tier].add(newcomer)
    this.#size += 1
    return displaced
  }

  delete(waiter: W): boolean {
    if (!this.#bands[waiter.tier].delete(waiter)) return false
    this.#size -= 1
    return true
  }

  /** Nobody has to wait any more: the next who must is the first of a burst. */
  rest(nowMs: number): void {
    for (const tier of tiers) this.#bands[tier].rest(nowMs)
  }

  /** How long one may wait who comes now, where `waitMaxMs` is the longest wait there is. */
  readWaitMs(who: Pick<Tiered, 'tier' | 'tenant'>, nowMs: number, waitMaxMs: number): number {
    const isStanding = nowMs - this.#bands[who.tier].busySinceOf(who.tenant) >= waitMaxMs
    return isStanding ? waitMaxMs * standingShare : waitMaxMs
  }

  /** Somebody who has waited too long in a line that never empties; `keep` may, or places could stay empty. */
  findStale({ nowMs, waitMaxMs, keep }: { nowMs: number; waitMaxMs: number; keep: number }): W | undefined {
    for (const tier of tiers) {
      const { oldest, size } = this.#bands[tier]
      if (size <= keep || oldest === undefined) continue
      if (nowMs - oldest.arrivedAtMs > this.readWaitMs(oldest, nowMs, waitMaxMs)) return oldest
    }
    return undefined
  }

  /**
   * Takes out who is next; it may be somebody whose time has passed, which is no turn. `msPerPlace` is the time in which
   * one place becomes free.
   */
  take({
    nowMs,
    waitMaxMs,
    msPerPlace,
  }: {
    nowMs: number
    waitMaxMs: number
    msPerPlace: number
  }): W | undefined {
    let next: Band<W> | null = null
    let aged: Band<W> | null = null
    for (const tier of tiers) {
      const band = this.#bands[tier]
      const { oldest } = band
      if (oldest === undefined) continue
      if (next === null) next = band
      else if (
        nowMs - oldest.arrivedAtMs >= this.readWaitMs(oldest, nowMs, waitMaxMs) * agedShare &&
        isOlder(band, aged)
      ) {
        aged = band
      }
    }
    if (next === null) return undefined
    const isAgedTurn = aged !== null && this.#agedTurns.slots(1) > 0
    const band = isAgedTurn && aged ? aged : next
    const waiter = band.take({ nowMs, riskBeforeMs: nowMs + band.size * msPerPlace }) as W
    this.#size -= 1
    if (waiter.deadlineMs > nowMs) this.#agedTurns.note(1, isAgedTurn ? 1 : 0)
    return waiter
  }

  /** About how many are let in before `newcomer`, if it joins. */
  countAhead(newcomer: Tiered): number {
    let ahead = 0
    for (const tier of tiers) {
      if (tier === newcomer.tier) return ahead + this.#bands[tier].countAhead(newcomer)
      ahead += this.#bands[tier].size
    }
    return ahead
  }

  #chooseDisplaced(newcomer: W): W {
    for (const tier of tiers.toReversed()) {
      const band = this.#bands[tier]
      if (tier === newcomer.tier) {
        return (band.hasLongerThan(newcomer) ? band.lastOfLongest : undefined) ?? newcomer
      }
      const last = band.lastOfLongest
      if (last !== undefined) return last
    }
    return newcomer
  }
}

const isOlder = <W extends Waiting>(band: Band<W>, than: Band<W> | null): boolean =>
  than === null || (band.oldest?.arrivedAtMs ?? 0) < (than.oldest?.arrivedAtMs ?? 0)
