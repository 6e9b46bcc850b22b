import { fail } from '../../core/errors.ts'
import { isEventStream, readEventData, splitEvents } from '../../core/sse.ts'
import type { AnswerHead, Sink } from '../call.ts'
import type { Fields } from '../calls/body.ts'
import { noCompletion } from './response.ts'

/** A whole answer that is larger is no chat completion. */
const wholeBytesMax = 32 * 1024 * 1024

/** What came of a call: the instance's complaint about the request, or chunks, of which a whole answer is one. */
export type ChatOutcome =
  { kind: 'refused'; status: number; body: Buffer } | { kind: 'whole'; chat: Fields } | { kind: 'streamed' }

/** Reads the answer to a chat call: chunk by chunk where the instance streams, else whole. */
export class ChatSink implements Sink {
  readonly #onHead: (head: AnswerHead) => void
  readonly #onChunks: (chunks: Fields[], resume: () => void) => boolean
  readonly #onFailure: () => void
  #head: AnswerHead | null = null
  #isStream = false
  #held: Buffer[] = []
  #heldBytes = 0
  #failure: unknown = null

  constructor(parts: {
    onHead?: (head: AnswerHead) => void
    /** False asks for a pause until `resume` is called. What it throws ends the call. */
    onChunks?: (chunks: Fields[], resume: () => void) => boolean
    /** The answer is of no use any more: the call is to be cut. */
    onFailure: () => void
  }) {
    this.#onHead = parts.onHead ?? (() => {})
    this.#onChunks = parts.onChunks ?? (() => true)
    this.#onFailure = parts.onFailure
  }

  get answered(): AnswerHead | null {
    return this.#head
  }

  head(head: AnswerHead): void {
    this.#head = head
    this.#isStream = head.status === 200 && isEventStream(head.contentType)
    if (head.status === 200) this.#onHead(head)
  }

  data(bytes: Buffer, resume: () => void): boolean {
    if (this.#failure !== null) return true
    if (this.#isStream) {
      try {
        const chunks = splitEvents(bytes).flatMap(readChunk)
        return chunks.length === 0 || this.#onChunks(chunks, resume)
      } catch (thrown) {
        this.#fail(thrown)
        return true
      }
    }
    this.#held.push(bytes)
    this.#heldBytes += bytes.length
    if (this.#heldBytes > wholeBytesMax) this.#fail(noCompletion())
    return true
  }

  end(): void {}

  /** After the call has ended: what came of it. Throws what went wrong in the reading of it. */
  read(): ChatOutcome {
    this.check()
    const { status } = this.#head as AnswerHead
    const body = Buffer.concat(this.#held)
    if (status !== 200) return { kind: 'refused', status, body }
    if (this.#isStream) return { kind: 'streamed' }
    try {
      return { kind: 'whole', chat: JSON.parse(body.toString('utf8')) as Fields }
    } catch {
      throw noCompletion()
    }
  }

  /** Throws what went wrong in the reading of the answer, which the router, told to stop, can't know. */
  check(): void {
    if (this.#failure !== null) throw this.#failure as Error
  }

  #fail(failure: unknown): void {
    this.#failure = failure
    this.#held = []
    this.#onFailure()
  }
}

function readChunk(event: Buffer): Fields[] {
  const data = readEventData(event)
  if (data === null || data === '[DONE]') return []
  try {
    const chunk = JSON.parse(data) as unknown
    if (typeof chunk === 'object' && chunk !== null) return [chunk as Fields]
  } catch {
    // As bad as a chunk that is no object.
  }
  throw fail('upstream_invalid', { message: 'The model instance sent an event that is no JSON object.' })
}
