import { LruMap } from '../../core/bounded.ts'
import { AgedTurns } from '../../queue/order.ts'
import { Heap } from './heap.ts'

/** What a line must know of one who waits in it. */
export type Waiting = {
  readonly tenant: string
  /** Of its tenant; greater than 0. */
  readonly weight: number
  /** Estimated tokens, at least 1. */
  readonly tokens: number
  readonly arrivedAtMs: number
  /** Which arrival it is; many come in the same millisecond. */
  readonly order: number
  /** Monotonic; begun later, it misses its client's deadline. Infinity for none. */
  readonly latestStartMs: number
  /** Monotonic; from then on it is of no use to let it in. */
  readonly deadlineMs: number
}

/** One tenant's own line, first come first served. */
type Flow<W extends Waiting> = {
  tenant: string
  weight: number
  /** Its virtual time: where its next request stands among those of other tenants. */
  tag: number
  /** Since when it has not been empty for good: neither served to its end nor at rest. */
  busySinceMs: number
  waiters: Set<W>
  byDeadline: Heap<W>
  newest: Heap<W>
}

/** Tenants that wait no more, and are not forgotten: whoever comes back at once has not become new. */
const idleMax = 10_000

/**
 * Those who wait with the same urgency, fair among tenants: start-time fair queueing, by which each tenant's virtual
 * time advances by estimated tokens / weight with each request that is let in, and the one furthest behind is next.
 * What is never let in costs nothing. Source: Goyal, Vin, Cheng, SIGCOMM 1996, https://doi.org/10.1145/248156.248171
 *
 * Of one tenant's requests, one whose deadline would otherwise be missed goes first, the earliest of them; that costs
 * nobody else. Past other tenants it goes in one turn of four, or a tenant would be first by its deadlines alone.
 */
export class Band<W extends Waiting> {
  readonly #flows = new Map<string, Flow<W>>()
  readonly #idle = new LruMap<string, Pick<Flow<W>, 'tag' | 'busySinceMs'>>(idleMax)
  readonly #byTag = new Heap<Flow<W>>((one, other) => one.tag < other.tag)
  readonly #byLength = new Heap<Flow<W>>((one, other) => lengthOf(one) > lengthOf(other))
  readonly #byDeadline = new Heap<W>(isDueBefore)
  /** In the order of arrival. */
  readonly #all = new Set<W>()
  readonly #urgentTurns = new AgedTurns()
  #virtualTime = 0
  #restedAtMs = -Infinity
  #weights = 0

  get size(): number {
    return this.#all.size
  }

  /** Who has waited longest; undefined when nobody waits. */
  get oldest(): W | undefined {
    return this.#all.values().next().value
  }

  /** Since when a tenant's line has not been empty for good; Infinity for one that is. */
  busySinceOf(tenant: string): number {
    const flow = this.#flows.get(tenant) ?? this.#idle.get(tenant)
    return flow && flow.busySinceMs >= this.#restedAtMs ? flow.busySinceMs : Infinity
  }

  /** Nobody has to wait any more. */
  rest(nowMs: number): void {
    this.#restedAtMs = nowMs
  }

  get all(): Iterable<W> {
    return this.#all
  }

  add(waiter: W): void {
    let flow = this.#flows.get(waiter.tenant)
    if (!flow) {
      const { tenant, weight } = waiter
      const tag = Math.max(this.#idle.get(tenant)?.tag ?? 0, this.#virtualTime)
      const busySinceMs = Math.min(this.busySinceOf(tenant), waiter.arrivedAtMs)
      const byDeadline = new Heap<W>(isDueBefore)
      flow = {
        tenant,
        weight,
        tag,
        busySinceMs,
        waiters: new Set(),
        byDeadline,
        newest: new Heap<W>(isNewer),
      }
      this.#flows.set(tenant, flow)
      this.#byTag.add(flow)
      this.#byLength.add(flow)
      this.#weights += weight
    }
    flow.waiters.add(waiter)
    flow.newest.add(waiter)
    this.#byLength.move(flow)
    this.#all.add(waiter)
    if (waiter.latestStartMs === Infinity) return
    flow.byDeadline.add(waiter)
    this.#byDeadline.add(waiter)
  }

  /** Takes out one who is not let in; false when it does not wait here. */
  delete(waiter: W): boolean {
    if (!this.#all.delete(waiter)) return false
    const flow = this.#flows.get(waiter.tenant) as Flow<W>
    flow.waiters.delete(waiter)
    flow.newest.delete(waiter)
    flow.byDeadline.delete(waiter)
    this.#byDeadline.delete(waiter)
    this.#byLength.move(flow)
    if (flow.waiters.size > 0) return true
    this.#flows.delete(flow.tenant)
    this.#byTag.delete(flow)
    this.#byLength.delete(flow)
    this.#weights = this.#flows.size === 0 ? 0 : this.#weights - flow.weight
    this.#idle.set(flow.tenant, { tag: flow.tag, busySinceMs: flow.busySinceMs })
    return true
  }

  /**
   * Takes out who is next. Those who would have to begin before `riskBeforeMs` may not, if they wait for their turn. Whose
   * time has passed at `nowMs` is taken out like the others and costs its tenant nothing.
   */
  take({ nowMs, riskBeforeMs }: { nowMs: number; riskBeforeMs: number }): W | undefined {
    const flow = this.#byTag.first
    if (!flow) return undefined
    const urgent = readUrgent(this.#byDeadline, riskBeforeMs)
    const isUrgentTurn = urgent !== undefined && this.#urgentTurns.slots(1) > 0
    const next = isUrgentTurn ? urgent : (readUrgent(flow.byDeadline, riskBeforeMs) ?? firstOf(flow.waiters))
    if (next.deadlineMs <= nowMs) {
      this.delete(next)
      return next
    }
    this.#urgentTurns.note(1, isUrgentTurn ? 1 : 0)
    if (next.tenant === flow.tenant) this.#virtualTime = Math.max(this.#virtualTime, flow.tag)
    const charged = this.#flows.get(next.tenant) as Flow<W>
    charged.tag = Math.max(charged.tag, this.#virtualTime) + next.tokens / charged.weight
    this.#byTag.move(charged)
    if (charged.waiters.size === 1) charged.busySinceMs = Infinity
    this.delete(next)
    return next
  }

  /** The last of the tenant who has most waiting for its weight; undefined when nobody waits. */
  get lastOfLongest(): W | undefined {
    return this.#byLength.first?.newest.first
  }

  /** Whether some tenant would have more waiting for its weight than `newcomer`'s, with it. */
  hasLongerThan({ tenant, weight }: Waiting): boolean {
    const longest = this.#byLength.first
    if (!longest || longest.tenant === tenant) return false
    const own = this.#flows.get(tenant)?.waiters.size ?? 0
    return lengthOf(longest) > (own + 1) / weight
  }

  /** About how many are let in before `newcomer`, if it joins: all tenants move together. */
  countAhead({ tenant, weight }: Waiting): number {
    const flow = this.#flows.get(tenant)
    const own = flow?.waiters.size ?? 0
    const others = this.#weights - (flow?.weight ?? 0)
    return Math.min(this.size, own + ((own + 1) * others) / weight)
  }
}

const firstOf = <W>(waiters: Set<W>): W => waiters.values().next().value as W
const isDueBefore = (one: Waiting, other: Waiting) => one.latestStartMs < other.latestStartMs
const isNewer = (one: Waiting, other: Waiting) => one.order > other.order
const lengthOf = <W extends Waiting>({ waiters, weight }: Flow<W>): number => waiters.size / weight

function readUrgent<W extends Waiting>(byDeadline: Heap<W>, riskBeforeMs: number): W | undefined {
  const { first } = byDeadline
  return first && first.latestStartMs <= riskBeforeMs ? first : undefined
}
