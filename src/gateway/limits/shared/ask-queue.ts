import type { Leased } from './leased.ts'

/** One ask is one script of the authority, and everybody else waits for its end. */
const itemsMax = 64
/** Of these, what nobody waits for goes along only up to so many. */
const asideMax = 24

/** What stands in line for the next ask, each at most once in each line: it says all that it has to say at its turn. */
export class AskQueue {
  /** Somebody waits for these, or will in a moment. */
  readonly #wanted = new Set<Leased>()
  /** To be told as soon as there is room. */
  readonly #aside = new Set<Leased>()
  /** To be told at the next tick. */
  readonly #later = new Set<Leased>()

  /** True while there is something for the next ask. */
  get isDue(): boolean {
    return this.#wanted.size > 0 || this.#aside.size > 0
  }

  want(leased: Leased): void {
    leased.isQueued = true
    this.#wanted.add(leased)
  }

  tellNow(leased: Leased): void {
    leased.isQueued = true
    this.#aside.add(leased)
  }

  tellLater(leased: Leased): void {
    leased.isQueued = true
    this.#later.add(leased)
  }

  /** What was for later is for now. */
  tick(): void {
    for (const leased of this.#later) this.#aside.add(leased)
    this.#later.clear()
  }

  /** What goes along with one ask: those who are waited for first. */
  take(): Leased[] {
    const items = takeFirst(this.#wanted, itemsMax)
    for (const item of items) {
      this.#aside.delete(item)
      this.#later.delete(item)
    }
    return [...items, ...takeFirst(this.#aside, Math.min(asideMax, itemsMax - items.length))]
  }

  /** As many as fit of what has to be told before the end. */
  takeLast(): Leased[] {
    this.tick()
    return takeFirst(this.#aside, itemsMax)
  }

  /** Nobody can be asked now: those who were waited for leave. What is to be told stays. */
  takeWanted(): Leased[] {
    return takeFirst(this.#wanted, Infinity)
  }

  /** It was decided on, or is not to be: it may stand in line again by now. */
  release(leased: Leased): void {
    leased.isQueued = this.#wanted.has(leased) || this.#aside.has(leased) || this.#later.has(leased)
  }

  /** It has nothing to say any more, unless somebody waits for it. */
  forget(leased: Leased): void {
    this.#aside.delete(leased)
    this.#later.delete(leased)
    this.release(leased)
  }
}

/** So many at most, the oldest first; they leave the line. */
function takeFirst(line: Set<Leased>, max: number): Leased[] {
  const taken: Leased[] = []
  for (const leased of line) {
    if (taken.length >= max) break
    taken.push(leased)
    line.delete(leased)
  }
  return taken
}
