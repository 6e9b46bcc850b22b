import { strict as assert } from 'node:assert'
import type { AnswerHead, Sink } from '../../router/call.ts'

/** Who has given a place away, and hears what becomes of it. */
export type PlaceOwner = {
  /** The first byte of an answer has come. */
  firstByte(place: Place, head: AnswerHead): void
  /** `thrown` is what ended it; null for an answer that was brought to its end. */
  left(place: Place, thrown: unknown): void
}

/**
 * A request's place among those under way, and its sink: one object is both, so that being let in costs nothing but
 * this. Given back when its call is settled.
 */
export class Place implements Sink {
  readonly stream: boolean
  readonly startedAtMs: number
  readonly #owner: PlaceOwner
  readonly #sink: Sink
  #isLeft = false

  constructor(owner: PlaceOwner, sink: Sink, stream: boolean, startedAtMs: number) {
    this.#owner = owner
    this.#sink = sink
    this.stream = stream
    this.startedAtMs = startedAtMs
  }

  head(head: AnswerHead): void {
    this.#owner.firstByte(this, head)
    this.#sink.head(head)
  }

  data(chunk: Buffer, resume: () => void): boolean {
    return this.#sink.data(chunk, resume)
  }

  end(): void {
    this.#sink.end()
  }

  settled(thrown: unknown): void {
    assert(!this.#isLeft, 'a place was given back twice')
    this.#isLeft = true
    this.#owner.left(this, thrown)
    this.#sink.settled?.(thrown)
  }
}
