import type { Leased } from './leased.ts'

/** Somebody who waits until all that it needs has been asked for. */
export type Waiter = {
  readonly needs: readonly Leased[]
  readonly decide: () => void
  readonly refuse: (error: Error) => void
}

/** Which arrival it is, and how many of its needs no ask has taken along yet. */
type Entry = { readonly waiter: Waiter; readonly order: number; missing: number }

/** Who waits for which part of the asks to come: each need of each of them is looked at once, however many wait. */
export class WaitList {
  readonly #entries = new Set<Entry>()
  readonly #byNeed = new Map<Leased, Entry[]>()
  #arrivals = 0

  get size(): number {
    return this.#entries.size
  }

  /** All that `waiter` needs is to be in line for an ask. */
  add(waiter: Waiter): void {
    const entry = { waiter, order: this.#arrivals++, missing: waiter.needs.length }
    this.#entries.add(entry)
    for (const need of waiter.needs) {
      const entries = this.#byNeed.get(need)
      if (entries === undefined) this.#byNeed.set(need, [entry])
      else entries.push(entry)
    }
  }

  /** These go along with an ask: takes out those for whom that was the last, in the order in which they came. */
  take(items: readonly Leased[]): Waiter[] {
    const ready: Entry[] = []
    for (const item of items) {
      const entries = this.#byNeed.get(item)
      if (entries === undefined) continue
      this.#byNeed.delete(item)
      for (const entry of entries) {
        entry.missing -= 1
        if (entry.missing > 0) continue
        this.#entries.delete(entry)
        ready.push(entry)
      }
    }
    return ready.sort((one, other) => one.order - other.order).map(({ waiter }) => waiter)
  }

  /** Takes out all of them. */
  takeAll(): Waiter[] {
    const waiters = Array.from(this.#entries, ({ waiter }) => waiter)
    this.#entries.clear()
    this.#byNeed.clear()
    return waiters
  }
}
