import type { Clock } from '../core/clock.ts'

/** Something that must have gone on by a time, which it moves as it goes on. */
export type Timed = {
  /** Monotonic milliseconds; Infinity while it waits for somebody else. */
  deadlineMs: number
  /** Where it stands in the list; the list's own. */
  place: number
  onDeadline(): void
}

/** How late a missed deadline may be seen. */
const sweepMs = 50

/**
 * The deadlines of everything under way, looked at by one timer: to move a deadline is to write a number. A timer for
 * each request, set anew with each chunk, took a twentieth of the gateway's time. Runs only while there is something.
 *
 * A list that closes its gaps, and not a Set: a Set makes itself new tables, and each old one keeps what it named
 * alive until the next full collection.
 */
export class Deadlines {
  readonly #clock: Clock
  readonly #entries: Timed[] = []
  #stopSweeping: (() => void) | null = null

  constructor(clock: Clock) {
    this.#clock = clock
  }

  add(entry: Timed): void {
    entry.place = this.#entries.push(entry) - 1
    this.#stopSweeping ??= this.#clock.every(sweepMs, () => this.#sweep())
  }

  delete(entry: Timed): void {
    const entries = this.#entries
    if (entries[entry.place] !== entry) return
    const last = entries.pop() as Timed
    if (last === entry) return
    entries[entry.place] = last
    last.place = entry.place
  }

  #sweep(): void {
    if (this.#entries.length === 0) {
      this.#stopSweeping?.()
      this.#stopSweeping = null
      return
    }
    const nowMs = this.#clock.now()
    // From the end: what is deleted meanwhile is replaced by an entry that has been looked at.
    for (let i = this.#entries.length - 1; i >= 0; i -= 1) {
      const entry = this.#entries[i]
      if (entry && nowMs >= entry.deadlineMs) entry.onDeadline()
    }
  }
}
