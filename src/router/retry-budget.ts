/**
 * Keeps retries from multiplying an outage: each live request earns a share of a retry, and a reserve lets a quiet
 * server survive the loss of an instance.
 * Source: Finagle's RetryBudget (a token bucket with a ratio and a minimum rate),
 * https://twitter.github.io/finagle/guide/Clients.html#retry-budget
 */
export class RetryBudget {
  #ratio: number
  #reserve: number
  #balance: number
  #refilledAtMs: number

  constructor(options: { ratio: number; reserve: number; nowMs: number }) {
    this.#ratio = options.ratio
    this.#reserve = options.reserve
    this.#balance = options.reserve
    this.#refilledAtMs = options.nowMs
  }

  /** Takes over new limits and keeps what was earned, as far as it fits. */
  configure(options: { ratio: number; reserve: number }): void {
    this.#ratio = options.ratio
    this.#reserve = options.reserve
    this.#balance = Math.min(this.#balance, this.#balanceMax())
  }

  /** A live request earns `ratio` of a retry. */
  deposit(): void {
    this.#balance = Math.min(this.#balance + this.#ratio, this.#balanceMax())
  }

  /** Takes one retry; false when there is none left. */
  withdraw(nowMs: number): boolean {
    // The reserve comes back in ten seconds, whatever the traffic.
    const earned = (Math.max(0, nowMs - this.#refilledAtMs) / 10_000) * this.#reserve
    if (this.#balance < this.#reserve) this.#balance = Math.min(this.#reserve, this.#balance + earned)
    this.#refilledAtMs = nowMs
    if (this.#balance < 1) return false
    this.#balance -= 1
    return true
  }

  #balanceMax(): number {
    return this.#reserve * 2 + 1
  }
}
