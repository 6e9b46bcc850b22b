import type { Clock } from '../../../core/clock.ts'
import { slack } from '../bucket.ts'
import {
  leaseMs,
  replicaTtlMs,
  slotsTtlMs,
  spareTtlMs,
  type Answer,
  type Ask,
  type Authority,
  type BucketItem,
  type Result,
  type SlotsItem,
} from './authority.ts'

type Lease = { amount: number; untilMs: number }
type BucketEntry = { level: number; atMs: number; leases: Map<string, Lease>; untilMs: number }
type SlotsEntry = { held: Map<string, number>; untilMs: number }

/** For each new key, so many others are looked at: those that say nothing more by now go. */
const looksUsual = 4
/** And so many when it is full. */
const looksWhenFull = 64

/**
 * What the script of script.ts does, in the memory of one process and by its clock. That has an end: a new key that
 * there is no room for is not decided on.
 */
export class MemoryAuthority implements Authority {
  readonly title = 'the first process of this machine'
  readonly #clock: Pick<Clock, 'now'>
  readonly #keysMax: number
  readonly #living = new Map<string, number>()
  readonly #buckets = new Map<string, BucketEntry>()
  readonly #slots = new Map<string, SlotsEntry>()
  readonly #sweeps = [new Sweep(this.#buckets), new Sweep(this.#slots)]

  constructor(clock: Pick<Clock, 'now'>, keysMax = 200_000) {
    this.#clock = clock
    this.#keysMax = keysMax
  }

  get size(): number {
    return this.#buckets.size + this.#slots.size
  }

  open(): Promise<void> {
    return Promise.resolve()
  }

  close(): void {}

  decide(ask: Ask): Promise<Answer> {
    try {
      return Promise.resolve(this.decideNow(ask))
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** The decision itself. */
  decideNow({ replica, bye, items }: Ask): Answer {
    const nowMs = this.#clock.now()
    for (const [id, seenAtMs] of this.#living) if (seenAtMs < nowMs - replicaTtlMs) this.#living.delete(id)
    const known = this.#living.has(replica)
    this.#living.set(replica, nowMs)
    const replicas = this.#living.size
    const results = items.map((item) =>
      item.kind === 'bucket'
        ? this.#decideBucket(item, replica, nowMs)
        : this.#decideSlots(item, replica, nowMs),
    )
    if (bye) this.#living.delete(replica)
    return { replicas, known, results }
  }

  #decideBucket(item: BucketItem, replica: string, nowMs: number): Result | null {
    const { capacity, rate, least, need, want } = item
    const entry = this.#bucket(item.key, capacity, nowMs)
    if (entry === null) return null
    const { leases } = entry
    const lease = { mine: 0, others: 0, ended: 0, endedAtMs: 0 }
    for (const [id, { amount, untilMs }] of leases) {
      if (untilMs <= nowMs) {
        lease.ended += amount
        lease.endedAtMs = Math.max(lease.endedAtMs, untilMs)
        leases.delete(id)
      } else if (id === replica) lease.mine = amount
      else lease.others += amount
    }
    // Refilled under the leases as they were until the last of them was spent.
    const others = lease.others
    let { mine } = lease
    let { level } = entry
    let sinceMs = Math.min(nowMs, entry.atMs)
    if (lease.ended > 0 && lease.endedAtMs > sinceMs) {
      level = Math.min(level + (lease.endedAtMs - sinceMs) * rate, capacity - others - mine - lease.ended)
      sinceMs = lease.endedAtMs
    }
    const spentAtMs = nowMs - item.spentAgoMs
    if (item.spent > 0 && spentAtMs > sinceMs) {
      level = Math.min(level + (spentAtMs - sinceMs) * rate, capacity - others - mine)
      sinceMs = spentAtMs
    } else if (item.spent > 0) level = Math.min(level, capacity - others - mine)
    mine = Math.max(0, mine - item.spent)
    level = Math.min(level + (nowMs - sinceMs) * rate, capacity - others - mine)
    const returned = Math.min(item.back, mine)
    mine -= returned
    level = Math.max(-item.debtMax, Math.min(level + returned - item.debit, capacity - others - mine))
    let granted = 0
    if (want > 0 && level >= need) {
      granted = need + Math.min(want - need, (level - need) / (this.#living.size + 1))
    } else if (want > 0 && least > 0) {
      // Not enough for all who wait: for as many as the lease and the rest together are enough for.
      granted = Math.min(level, Math.floor((mine + level + slack) / least) * least - mine)
    }
    granted = Math.max(0, granted)
    level -= granted
    mine += granted
    entry.level = level
    entry.atMs = nowMs
    if (mine > 0) leases.set(replica, { amount: mine, untilMs: nowMs + leaseMs })
    else leases.delete(replica)
    entry.untilMs = nowMs + Math.ceil(Math.max(leaseMs, (capacity - level) / rate) + spareTtlMs)
    return { granted, held: mine, level }
  }

  #decideSlots({ key, limit, held, need, want }: SlotsItem, replica: string, nowMs: number): Result | null {
    let entry = this.#slots.get(key)
    if (entry === undefined || entry.untilMs <= nowMs) {
      if (entry === undefined && !this.#makeRoom(nowMs)) return null
      entry = { held: new Map(), untilMs: 0 }
      this.#slots.set(key, entry)
    }
    let others = 0
    for (const [id, count] of entry.held) {
      if (id === replica) continue
      if (this.#living.has(id)) others += count
      else entry.held.delete(id)
    }
    const room = Math.max(0, limit - others - held)
    let granted = Math.min(room, need)
    if (room > need)
      granted = need + Math.floor(Math.min(want - need, (room - need) / (this.#living.size + 1)))
    if (held + granted > 0) {
      entry.held.set(replica, held + granted)
      entry.untilMs = nowMs + slotsTtlMs
    } else {
      entry.held.delete(replica)
      if (entry.held.size === 0) this.#slots.delete(key)
    }
    return { granted, held: held + granted, level: room - granted }
  }

  #bucket(key: string, capacity: number, nowMs: number): BucketEntry | null {
    const known = this.#buckets.get(key)
    if (known !== undefined && known.untilMs > nowMs) return known
    if (known === undefined && !this.#makeRoom(nowMs)) return null
    const entry = { level: capacity, atMs: nowMs, leases: new Map<string, Lease>(), untilMs: nowMs }
    this.#buckets.set(key, entry)
    return entry
  }

  /** Whether there is room for another key. */
  #makeRoom(nowMs: number): boolean {
    const isFull = this.size >= this.#keysMax
    for (const sweep of this.#sweeps) sweep.go(isFull ? looksWhenFull : looksUsual, nowMs)
    return this.size < this.#keysMax
  }
}

/** Goes round a map a few entries at a time, and deletes those that are over. */
class Sweep {
  readonly #entries: Map<string, { untilMs: number }>
  #next: MapIterator<[string, { untilMs: number }]>

  constructor(entries: Map<string, { untilMs: number }>) {
    this.#entries = entries
    this.#next = entries.entries()
  }

  go(looksMax: number, nowMs: number): void {
    for (let looks = Math.min(looksMax, this.#entries.size); looks > 0; looks -= 1) {
      let next = this.#next.next()
      if (next.done) {
        this.#next = this.#entries.entries()
        next = this.#next.next()
        if (next.done) return
      }
      const [key, { untilMs }] = next.value
      if (untilMs <= nowMs) this.#entries.delete(key)
    }
  }
}
