/** What is needed of an AbortSignal, which is one: that the work it stands for is to end, said at most once. */
export type CancelSignal = {
  readonly aborted: boolean
  addEventListener(type: 'abort', listener: () => void): void
  removeEventListener(type: 'abort', listener: () => void): void
}

/**
 * Ends one piece of work, and is its own signal. An AbortController does the same through an event target, events and
 * weak references, which is dear when every request makes one (docs/benchmarks.md); so the way of a live request has
 * this one. Where a library asks for an AbortSignal, it takes the real one.
 */
export class Cancellation implements CancelSignal {
  #aborted = false
  /** Nearly always there is one listener, and no list. */
  #first: (() => void) | null = null
  #others: (() => void)[] | null = null

  get aborted(): boolean {
    return this.#aborted
  }

  /** Tells all who listen, in the order in which they came; they must not throw. Further calls do nothing. */
  abort(): void {
    if (this.#aborted) return
    this.#aborted = true
    for (let next = this.#take(); next !== undefined; next = this.#take()) next()
  }

  /** Listeners that come after the end hear nothing, as with an AbortSignal. */
  addEventListener(_type: 'abort', listener: () => void): void {
    if (this.#aborted) return
    if (this.#first === null && this.#others === null) this.#first = listener
    else (this.#others ??= []).push(listener)
  }

  removeEventListener(_type: 'abort', listener: () => void): void {
    if (this.#first === listener) this.#first = null
    else if (this.#others !== null) this.#others = this.#others.filter((other) => other !== listener)
  }

  /** One who listens still: a listener may remove another. */
  #take(): (() => void) | undefined {
    const first = this.#first
    if (first === null) return this.#others?.shift()
    this.#first = null
    return first
  }
}
