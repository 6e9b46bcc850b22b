import type { Clock } from '../../core/clock.ts'

/** How long one answer is remembered, by e. */
const tauMs = 10_000
/** Fewer than this say more of single requests than of the fleet. */
const answersMin = 20

/** The share of recent answers that failed: two numbers, whatever the traffic. */
export class FailureShare {
  readonly #clock: Pick<Clock, 'now'>
  #answers = 0
  #failures = 0
  #atMs = 0

  constructor(clock: Pick<Clock, 'now'>) {
    this.#clock = clock
  }

  /** An answer of a model has ended. What the caller itself did wrong, and who hung up, is no failure. */
  note(failed: boolean): void {
    this.#fade()
    this.#answers += 1
    if (failed) this.#failures += 1
  }

  /** Between 0 and 1; null while too little is known. */
  read(): number | null {
    this.#fade()
    return this.#answers < answersMin ? null : this.#failures / this.#answers
  }

  #fade(): void {
    const nowMs = this.#clock.now()
    const keep = Math.exp((this.#atMs - nowMs) / tauMs)
    this.#answers *= keep
    this.#failures *= keep
    this.#atMs = nowMs
  }
}
