import type { CancelSignal } from '../core/cancellation.ts'
import type { Clock } from '../core/clock.ts'
import type { AnswerHead, Call, Sink } from '../router/call.ts'
import type { Router } from '../router/router.ts'
import type { LiveSignals } from './live-signals.ts'

/** The door to the models, as live requests see it. */
export type ModelRouter = Pick<Router, 'run' | 'resolve' | 'aliases'>

/** The router with a book of how live requests fare beside it: what tasks must not spoil. */
export class LiveRouter implements ModelRouter {
  readonly #router: ModelRouter
  readonly #live: LiveSignals
  readonly #clock: Clock

  constructor(parts: { router: ModelRouter; live: LiveSignals; clock: Clock }) {
    this.#router = parts.router
    this.#live = parts.live
    this.#clock = parts.clock
  }

  get aliases(): Readonly<Record<string, string>> {
    return this.#router.aliases
  }

  resolve(name: string): string | null {
    return this.#router.resolve(name)
  }

  run(call: Call, sink: Sink, signal: CancelSignal): Promise<void> {
    const model = this.#router.resolve(call.model)
    if (model === null) return this.#router.run(call, sink, signal)
    const watched = new WatchedSink(sink, model, this.#live, this.#clock)
    return this.#router.run(call, watched, signal, liveOptions)
  }
}

const liveOptions = { hedges: true } as const

class WatchedSink implements Sink {
  #answered = false
  readonly #sink: Sink
  readonly #model: string
  readonly #live: LiveSignals
  readonly #clock: Clock
  readonly #startedAtMs: number

  constructor(sink: Sink, model: string, live: LiveSignals, clock: Clock) {
    this.#sink = sink
    this.#model = model
    this.#live = live
    this.#clock = clock
    this.#startedAtMs = clock.now()
    live.began(model)
  }

  head(head: AnswerHead): void {
    this.#answered = true
    this.#live.firstByte(this.#model, this.#clock.now() - this.#startedAtMs)
    this.#sink.head(head)
  }

  data(chunk: Buffer, resume: () => void): boolean {
    return this.#sink.data(chunk, resume)
  }

  end(): void {
    this.#sink.end()
  }

  settled(thrown: unknown): void {
    this.#live.ended(this.#model, this.#answered)
    this.#sink.settled?.(thrown)
  }
}
