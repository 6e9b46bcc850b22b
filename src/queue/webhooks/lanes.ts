type LaneLimits = { activeMax: number; laneActiveMax: number; laneWaitingMax: number; heldMax: number }

type Lane<T> = { waiting: T[]; active: number }

/**
 * A waiting line for each host, so that one that is slow holds up its own messages and no others. Hosts take turns.
 */
export class Lanes<T> {
  readonly #limits: LaneLimits
  readonly #lanes = new Map<string, Lane<T>>()
  #active = 0
  #waiting = 0

  constructor(limits: LaneLimits) {
    this.#limits = limits
  }

  /** How many more may be offered, to whatever host. */
  get room(): number {
    return this.#limits.heldMax - this.#active - this.#waiting
  }

  /** How many more the fullest line has room for. */
  get laneRoom(): number {
    let longest = 0
    for (const { waiting } of this.#lanes.values()) longest = Math.max(longest, waiting.length)
    return this.#limits.laneWaitingMax - longest
  }

  /** False, and nothing is kept, when the line of this host is full. */
  offer(host: string, item: T): boolean {
    const lane = this.#lanes.get(host) ?? { waiting: [], active: 0 }
    if (this.room <= 0 || lane.waiting.length >= this.#limits.laneWaitingMax) return false
    this.#lanes.set(host, lane)
    lane.waiting.push(item)
    this.#waiting += 1
    return true
  }

  /** The next one that may go now; `done` must follow. Undefined when none may. */
  take(): { host: string; item: T } | undefined {
    if (this.#active >= this.#limits.activeMax) return undefined
    for (const [host, lane] of this.#lanes) {
      const item = lane.active < this.#limits.laneActiveMax ? lane.waiting.shift() : undefined
      if (item === undefined) continue
      // Behind all others: the next turn is theirs.
      this.#lanes.delete(host)
      this.#lanes.set(host, lane)
      lane.active += 1
      this.#active += 1
      this.#waiting -= 1
      return { host, item }
    }
    return undefined
  }

  done(host: string): void {
    const lane = this.#lanes.get(host)
    if (!lane) return
    lane.active -= 1
    this.#active -= 1
    if (lane.active === 0 && lane.waiting.length === 0) this.#lanes.delete(host)
  }

  /** Takes all that wait. Those under way stay. */
  clear(): T[] {
    const items: T[] = []
    for (const [host, lane] of this.#lanes) {
      items.push(...lane.waiting.splice(0))
      if (lane.active === 0) this.#lanes.delete(host)
    }
    this.#waiting = 0
    return items
  }
}
