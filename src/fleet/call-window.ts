/** How a call went, for a breaker: well, not at all, or too late. */
export type CallOutcome = 'success' | 'failure' | 'slow'

const bucketCount = 10

/**
 * How the calls of the last while went, in a ring of buckets: nothing is allocated for a call, and what is older than
 * the window leaves it a tenth at a time.
 */
export class CallWindow {
  calls = 0
  failures = 0
  slow = 0
  /** For each bucket its calls, failures and slow calls. */
  readonly #cells = new Uint32Array(bucketCount * 3)
  #windowMs = 0
  /** The number of the bucket that is being filled, counted from time 0. */
  #bucket = 0

  add(outcome: CallOutcome, nowMs: number, windowMs: number): void {
    this.roll(nowMs, windowMs)
    const cell = (this.#bucket % bucketCount) * 3
    this.calls += 1
    this.#raise(cell)
    if (outcome === 'failure') {
      this.failures += 1
      this.#raise(cell + 1)
    } else if (outcome === 'slow') {
      this.slow += 1
      this.#raise(cell + 2)
    }
  }

  /** A call that was counted as a success has failed after all. */
  addLateFailure(nowMs: number, windowMs: number): void {
    this.roll(nowMs, windowMs)
    this.failures += 1
    this.#raise((this.#bucket % bucketCount) * 3 + 1)
  }

  /** Forgets what is older than the window, and everything when the window has another length than before. */
  roll(nowMs: number, windowMs: number): void {
    const bucket = Math.floor((nowMs * bucketCount) / windowMs)
    if (windowMs !== this.#windowMs || bucket - this.#bucket >= bucketCount) {
      this.clear()
      this.#windowMs = windowMs
      this.#bucket = bucket
      return
    }
    while (this.#bucket < bucket) {
      this.#bucket += 1
      const cell = (this.#bucket % bucketCount) * 3
      this.calls -= this.#cells[cell] as number
      this.failures -= this.#cells[cell + 1] as number
      this.slow -= this.#cells[cell + 2] as number
      this.#cells.fill(0, cell, cell + 3)
    }
  }

  clear(): void {
    this.#cells.fill(0)
    this.calls = 0
    this.failures = 0
    this.slow = 0
  }

  #raise(cell: number): void {
    this.#cells[cell] = (this.#cells[cell] as number) + 1
  }
}
