import type { CancelSignal } from '../core/cancellation.ts'
import type { Attempt, AttemptResult } from './attempt.ts'

/**
 * One call on an instance and, when that is slow to begin, on a second one beside it. The one that commits first wins;
 * the other is cut before a byte of the answer goes out, and its instance is free at once. One that fails leaves the
 * call to the other.
 *
 * Made only where hedging is switched on. The time after which the second begins is a deadline of the first attempt,
 * so that no timer is needed.
 */
export class Race {
  /** Whether the second attempt was the faster one. */
  secondWon = false
  readonly #startSecond: () => Attempt | null
  readonly #signal: CancelSignal
  #first: Attempt | null = null
  #second: Attempt | null = null
  #winner: Attempt | null = null
  #underWay = 0
  #resolve: (result: AttemptResult) => void = () => {}

  /** `startSecond` chooses another instance for the call; null when there is none, or no budget for it. */
  constructor(startSecond: () => Attempt | null, signal: CancelSignal) {
    this.#startSecond = startSecond
    this.#signal = signal
  }

  /** Resolves with what came of the call: of the winner, or of the attempt that failed last. */
  run(first: Attempt): Promise<AttemptResult> {
    return new Promise((resolve) => {
      this.#resolve = resolve
      this.#first = first
      this.#start(first)
    })
  }

  /** The first attempt has no first byte yet. */
  onSlow(): void {
    const second = this.#startSecond()
    if (second === null || this.#first === null) return
    this.#second = second
    this.#first.number = second.number
    this.#start(second)
  }

  /** An attempt has an answer: from here on it is the only one. */
  onCommit(attempt: Attempt): void {
    this.#winner = attempt
    this.secondWon = attempt === this.#second
    this.#cutOther(attempt)
  }

  #start(attempt: Attempt): void {
    attempt.race = this
    this.#underWay += 1
    void attempt.run(this.#signal).then((result) => this.#ended(attempt, result))
  }

  #ended(attempt: Attempt, result: AttemptResult): void {
    this.#underWay -= 1
    if (this.#winner !== null && this.#winner !== attempt) return
    // A complaint about the call itself is no reason to wait: the other instance would have the same.
    const isDecided = this.#underWay === 0 || (result.kind === 'failed' && !result.failure.retryable)
    if (result.kind === 'failed' && !result.committed && !isDecided) return
    this.#winner = attempt
    this.#cutOther(attempt)
    this.#resolve(result)
  }

  #cutOther(attempt: Attempt): void {
    const other = attempt === this.#first ? this.#second : this.#first
    other?.cancel()
  }
}
