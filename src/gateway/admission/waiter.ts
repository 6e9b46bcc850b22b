import type { CancelSignal } from '../../core/cancellation.ts'
import type { Timed } from '../../router/deadlines.ts'
import type { Ask, Sink } from '../../router/call.ts'
import type { RefusalKind } from './refusals.ts'
import type { Place } from './place.ts'
import type { Tiered } from './waiting-line.ts'

/** What calls without one count as. */
export const nobodysAsk: Ask = { tenant: '', weight: 1, tier: 'default', deadlineMs: null, tokens: 256 }

/** A live request that waits for a place. */
export class Waiter implements Tiered, Timed {
  readonly tenant: string
  readonly weight: number
  readonly tokens: number
  readonly tier: Ask['tier']
  readonly stream: boolean
  readonly sink: Sink
  readonly arrivedAtMs: number
  readonly order: number
  readonly latestStartMs: number
  /** When it leaves the line by itself: the longest wait, or the last moment for its client's deadline. */
  readonly deadlineMs: number
  place = -1
  readonly #signal: CancelSignal
  readonly #leave: (waiter: Waiter, kind: RefusalKind) => void
  readonly #settled = Promise.withResolvers<Place>()
  readonly #onAbort = () => this.#leave(this, 'client_gone')

  constructor(parts: {
    ask: Ask
    stream: boolean
    sink: Sink
    signal: CancelSignal
    arrivedAtMs: number
    order: number
    latestStartMs: number
    waitMaxMs: number
    /** Called when it is to leave the line before it is let in. */
    leave: (waiter: Waiter, kind: RefusalKind) => void
  }) {
    const { ask } = parts
    this.tenant = ask.tenant
    // A share or a cost of nothing, or less, would turn the order of all others upside down.
    this.weight = ask.weight > 0 ? ask.weight : 1
    this.tokens = Math.max(1, ask.tokens || 1)
    this.tier = ask.tier
    this.stream = parts.stream
    this.sink = parts.sink
    this.arrivedAtMs = parts.arrivedAtMs
    this.order = parts.order
    this.latestStartMs = parts.latestStartMs
    this.deadlineMs = Math.min(parts.latestStartMs, parts.arrivedAtMs + parts.waitMaxMs)
    this.#signal = parts.signal
    this.#leave = parts.leave
  }

  /** Resolves with its place; rejects with the reason for which it got none. */
  get settled(): Promise<Place> {
    return this.#settled.promise
  }

  /** It has joined the line. */
  watch(): void {
    this.#signal.addEventListener('abort', this.#onAbort)
  }

  /** What it is told when its deadline has passed. */
  get lateKind(): RefusalKind {
    return this.latestStartMs <= this.deadlineMs ? 'rejected_deadline' : 'expired'
  }

  onDeadline(): void {
    this.#leave(this, this.lateKind)
  }

  letIn(place: Place): void {
    this.#signal.removeEventListener('abort', this.#onAbort)
    this.#settled.resolve(place)
  }

  refuse(error: Error): void {
    this.#signal.removeEventListener('abort', this.#onAbort)
    this.#settled.reject(error)
  }
}
