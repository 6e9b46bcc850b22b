import type { Clock } from '../core/clock.ts'

/** Progress for those who only look at it. */
export type ProgressView = Pick<ProgressBoard, 'read' | 'watch' | 'endsPerSecond'>

/** How long ends are remembered for the rate of them. */
const rateTauMs = 30_000

/**
 * What this process knows of the tasks that it runs, and the store does not: how far the current attempt has come,
 * and how fast tasks end. Best effort: nothing here outlives the process, and another process sees none of it.
 */
export class ProgressBoard {
  readonly #clock: Clock
  readonly #tokens = new Map<string, number>()
  readonly #listeners = new Map<string, Set<() => void>>()
  #ends = 0
  #endsAtMs = 0

  constructor(clock: Clock) {
    this.#clock = clock
    this.#endsAtMs = clock.now()
  }

  /** Tokens that the current attempt has produced so far. */
  note(id: string, completionTokens: number): void {
    this.#tokens.set(id, completionTokens)
    for (const tell of this.#listeners.get(id) ?? []) tell()
  }

  /** Null when nothing is known: the task does not run here, or has not produced anything. */
  read(id: string): number | null {
    return this.#tokens.get(id) ?? null
  }

  /** The attempt is over. With `ended` so is the task: somebody who was refused may find room. */
  clear(id: string, { ended }: { ended: boolean }): void {
    this.#tokens.delete(id)
    if (ended) this.#ends = this.#fadedEnds() + 1
  }

  /** Calls `listener` at every note of this task until the returned function is called. */
  watch(id: string, listener: () => void): () => void {
    const listeners = this.#listeners.get(id) ?? new Set()
    this.#listeners.set(id, listeners)
    listeners.add(listener)
    return () => {
      listeners.delete(listener)
      if (listeners.size === 0 && this.#listeners.get(id) === listeners) this.#listeners.delete(id)
    }
  }

  isWatched(id: string): boolean {
    return this.#listeners.has(id)
  }

  /** Tasks that end here in a second, over the last half minute; 0 when none has. */
  get endsPerSecond(): number {
    return (this.#fadedEnds() / rateTauMs) * 1000
  }

  /** An exponential window: each end counts for less the longer ago it was. */
  #fadedEnds(): number {
    const nowMs = this.#clock.now()
    this.#ends *= Math.exp((this.#endsAtMs - nowMs) / rateTauMs)
    this.#endsAtMs = nowMs
    return this.#ends
  }
}
