import { fail } from '../core/errors.ts'
import { readRetryAfterMs } from '../router/failure.ts'
import type { AnswerHead, Sink } from '../router/call.ts'
import { AnswerRefused } from './refused.ts'

/** The answer of a task is kept whole: this is the largest one. */
export const answerBytesMax = 32 * 1024 * 1024

export type Answer = { body: Buffer; instance: string }

/** Takes an answer in, whole. An answer that is too large is cut off by `stop`. */
export class CollectSink implements Sink {
  readonly #stop: () => void
  #head: AnswerHead | null = null
  #pieces: Buffer[] = []
  #bytes = 0

  constructor(stop: () => void) {
    this.#stop = stop
  }

  head(head: AnswerHead): void {
    this.#head = head
  }

  data(chunk: Buffer): boolean {
    this.#bytes += chunk.length
    if (this.#bytes <= answerBytesMax) this.#pieces.push(chunk)
    else if (this.#pieces.length > 0) {
      this.#pieces = []
      this.#stop()
    }
    return true
  }

  end(): void {}

  get isOverfull(): boolean {
    return this.#bytes > answerBytesMax
  }

  /** The answer, after `router.run` has resolved. Throws AnswerRefused when it is the instance's complaint. */
  read(): Answer {
    const { status, retryAfter, instance } = this.#head as AnswerHead
    const body = this.#pieces.length === 1 ? (this.#pieces[0] as Buffer) : Buffer.concat(this.#pieces)
    // These say "later", not "never".
    if (status === 408 || status === 409 || status === 425) {
      const retryAfterMs = readRetryAfterMs(retryAfter)
      throw fail('upstream_failed', {
        message: new AnswerRefused(status, body).message,
        ...(retryAfterMs === null ? {} : { retryAfterMs }),
      })
    }
    if (status !== 200) throw new AnswerRefused(status, body)
    return { body, instance: instance.id }
  }
}

export const tooLarge = () =>
  fail('body_too_large', { message: `The answer is larger than ${answerBytesMax} bytes.` })
