import type { CancelSignal } from '../core/cancellation.ts'
import { fail } from '../core/errors.ts'
import type { AnswerHead, Sink } from '../router/call.ts'

/** An answer that a reader must not share: the complaint may be about a part of the call that is not its own. */
export class NotShared extends Error {
  override readonly name = 'NotShared'
}

/** A client of an answer. `asides` are what its call has beside the others'; see `response-cache-key.ts`. */
export type Reader = { sink: Sink; asides: string; signal: CancelSignal }

/**
 * One answer on its way to several clients. Each takes it at its own pace, from the beginning. As long as it is not
 * larger than `bytesMax` all of it is held, and newcomers may join; one that outgrows this goes on to those who have
 * it, in a window of `bytesMax` that moves with the slowest of them.
 */
export class SharedAnswer implements Sink {
  readonly #bytesMax: number
  readonly #asides: string
  readonly #onEmpty: () => void
  readonly #readers = new Set<Follower>()
  #head: AnswerHead | null = null
  /** What is held of the answer; `#dropped` chunks were before. */
  #chunks: Buffer[] = []
  #dropped = 0
  #heldBytes = 0
  #isWhole = true
  #ended = false
  #error: unknown = null
  #resume: (() => void) | null = null

  constructor(parts: {
    bytesMax: number
    /** Of the call that is made. */
    asides: string
    /** Told when the last reader has left before the end. */
    onEmpty: () => void
  }) {
    this.#bytesMax = parts.bytesMax
    this.#asides = parts.asides
    this.#onEmpty = parts.onEmpty
  }

  /** Whether a newcomer would get all of it, and may. */
  get isOpen(): boolean {
    return this.#isWhole && this.#error === null && (this.#head === null || this.#head.status === 200)
  }

  /** The whole answer, once it has ended; null when it was too large to be held. */
  take(): { head: AnswerHead; body: Buffer } | null {
    if (!this.#ended || !this.#isWhole || this.#head === null) return null
    const [only] = this.#chunks
    return { head: this.#head, body: this.#chunks.length === 1 && only ? only : Buffer.concat(this.#chunks) }
  }

  head(head: AnswerHead): void {
    this.#head = head
    if (head.status !== 200) {
      for (const reader of this.#readers) if (reader.asides !== this.#asides) reader.finish(new NotShared())
    }
  }

  data(chunk: Buffer, resume: () => void): boolean {
    this.#chunks.push(chunk)
    this.#heldBytes += chunk.length
    if (this.#heldBytes > this.#bytesMax) this.#isWhole = false
    this.#pumpAll()
    if (this.#isWhole) return true
    this.#trim()
    if (this.#heldBytes <= this.#bytesMax || this.#readers.size === 0) return true
    this.#resume = resume
    return false
  }

  end(): void {
    this.#ended = true
    this.#pumpAll()
  }

  /** Ends an answer that does not come, or breaks off. Everybody gets first what there was of it. */
  fail(error: unknown): void {
    this.#error = error
    this.#pumpAll()
  }

  /** Brings the answer into a sink. Rejects as `Router.run` does; the others are not touched when a client leaves. */
  follow({ sink, asides, signal }: Reader): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = () => follower.finish(fail('client_closed'))
      const follower = new Follower(this, sink, asides, (error) => {
        signal.removeEventListener('abort', onAbort)
        this.#readers.delete(follower)
        if (error === null) resolve()
        else reject(error)
        if (this.#readers.size === 0 && !this.#ended && this.#error === null) this.#onEmpty()
        this.afterPump()
      })
      this.#readers.add(follower)
      if (signal.aborted) return onAbort()
      signal.addEventListener('abort', onAbort)
      follower.pump()
    })
  }

  /** What a follower at this chunk gets next. */
  next(at: number): { head: AnswerHead | null; chunk: Buffer | null; ended: boolean; error: unknown } {
    const chunk = this.#chunks[at - this.#dropped] ?? null
    return { head: this.#head, chunk, ended: this.#ended, error: this.#error }
  }

  /** A reader has moved on or left: there may be room again. */
  afterPump(): void {
    if (this.#isWhole || this.#resume === null) return
    this.#trim()
    if (this.#heldBytes > this.#bytesMax && this.#readers.size > 0) return
    const resume = this.#resume
    this.#resume = null
    resume()
  }

  #pumpAll(): void {
    for (const reader of this.#readers) reader.pump()
  }

  /** Lets go of what every reader has. */
  #trim(): void {
    let slowest = this.#dropped + this.#chunks.length
    for (const { position } of this.#readers) slowest = Math.min(slowest, position)
    for (const chunk of this.#chunks.splice(0, slowest - this.#dropped)) this.#heldBytes -= chunk.length
    this.#dropped = slowest
  }
}

/** One client's place in a shared answer. */
class Follower {
  readonly asides: string
  /** The chunk that comes next. */
  position = 0
  readonly #answer: SharedAnswer
  readonly #sink: Sink
  readonly #settle: (error: unknown) => void
  #hasHead = false
  #isPaused = false
  #isDone = false

  constructor(answer: SharedAnswer, sink: Sink, asides: string, settle: (error: unknown) => void) {
    this.#answer = answer
    this.#sink = sink
    this.asides = asides
    this.#settle = settle
  }

  /** Hands over what is there and not yet taken. */
  pump(): void {
    try {
      while (!this.#isPaused && !this.#isDone) {
        const { head, chunk, ended, error } = this.#answer.next(this.position)
        if (head !== null && !this.#hasHead) {
          this.#hasHead = true
          this.#sink.head(head)
        }
        if (chunk !== null) {
          this.position += 1
          this.#isPaused = true
          if (this.#sink.data(chunk, this.#onResume)) this.#isPaused = false
        } else if (error !== null) {
          return this.finish(error)
        } else if (ended) {
          this.#sink.end()
          return this.finish(null)
        } else {
          return
        }
      }
    } catch (error) {
      // What goes wrong for one client is not the others' matter.
      this.finish(error)
    }
  }

  finish(error: unknown): void {
    if (this.#isDone) return
    this.#isDone = true
    this.#settle(error)
  }

  readonly #onResume = () => {
    this.#isPaused = false
    this.pump()
    this.#answer.afterPump()
  }
}
