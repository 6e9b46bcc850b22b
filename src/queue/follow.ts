import type { Clock } from '../core/clock.ts'
import type { Store } from '../storage/store.ts'
import type { ProgressView } from './progress.ts'

/** A wake may get lost (another process, a broken connection): then a follower is late by this at most. */
const pollMs = 1_000
/** Progress is told no more often than this. */
const progressMs = 200

/** Why a follower looks again. */
type Ring = 'changed' | 'progress' | 'poll' | 'aborted'

/** Wakes those who follow tasks: one listener on the store for all of them. */
export class TaskBells {
  readonly #clock: Clock
  readonly #progress: ProgressView
  readonly #bells = new Map<string, Set<() => void>>()

  constructor(parts: { store: Store; clock: Clock; progress: ProgressView }) {
    this.#clock = parts.clock
    this.#progress = parts.progress
    parts.store.onWake((wake) => {
      if (wake.kind === 'changed') for (const ring of this.#bells.get(wake.id) ?? []) ring()
    })
  }

  /** A bell of one follower. What rings between two waits is not lost. */
  hang(id: string, signal: AbortSignal): TaskBell {
    const bell = new TaskBell(this.#clock, signal)
    const bells = this.#bells.get(id) ?? new Set()
    this.#bells.set(id, bells)
    bells.add(bell.onChange)
    const unwatch = this.#progress.watch(id, bell.onProgress)
    // Who comes late is told at once how far it is, and not only when it goes on.
    if (this.#progress.read(id) !== null) bell.onProgress()
    bell.onClose = () => {
      unwatch()
      bells.delete(bell.onChange)
      if (bells.size === 0 && this.#bells.get(id) === bells) this.#bells.delete(id)
    }
    return bell
  }
}

class TaskBell {
  readonly #clock: Clock
  readonly #signal: AbortSignal
  #hasChanged = false
  #hasProgress = false
  #toldAtMs = -Infinity
  #wake: ((ring: Ring) => void) | null = null
  #cancelTimer: (() => void) | null = null
  onClose: () => void = () => {}

  constructor(clock: Clock, signal: AbortSignal) {
    this.#clock = clock
    this.#signal = signal
    signal.addEventListener('abort', this.#onAbort)
  }

  readonly onChange = (): void => {
    this.#hasChanged = true
    this.#wake?.('changed')
  }

  readonly onProgress = (): void => {
    if (this.#hasProgress) return
    this.#hasProgress = true
    if (this.#wake) this.#setTimer()
  }

  readonly #onAbort = (): void => this.#wake?.('aborted')

  async next(): Promise<Ring> {
    const ring = await this.#wait()
    if (ring === 'changed') this.#hasChanged = false
    if (ring === 'progress') {
      this.#hasProgress = false
      this.#toldAtMs = this.#clock.now()
    }
    return ring
  }

  close(): void {
    this.#signal.removeEventListener('abort', this.#onAbort)
    this.#cancelTimer?.()
    this.onClose()
  }

  #wait(): Promise<Ring> {
    if (this.#signal.aborted) return Promise.resolve('aborted')
    if (this.#hasChanged) return Promise.resolve('changed')
    return new Promise((resolve) => {
      this.#wake = (ring) => {
        this.#wake = null
        this.#cancelTimer?.()
        this.#cancelTimer = null
        resolve(ring)
      }
      this.#setTimer()
    })
  }

  #setTimer(): void {
    this.#cancelTimer?.()
    const ring = this.#hasProgress ? 'progress' : 'poll'
    const waitMs = this.#hasProgress ? Math.max(0, this.#toldAtMs + progressMs - this.#clock.now()) : pollMs
    this.#cancelTimer = this.#clock.after(waitMs, () => this.#wake?.(ring))
  }
}
