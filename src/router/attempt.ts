import type { Clock } from '../core/clock.ts'
import { endOfLastEvent, readEventData, splitEvents } from '../core/sse.ts'
import type { Instance } from '../fleet/instance.ts'
import { observeLatency } from '../fleet/latency.ts'
import type { Exchange, Receiver } from '../fleet/transport.ts'
import type { Call, Sink } from './call.ts'
import {
  judgeErrorInside,
  judgeInvalidAnswer,
  judgeStatus,
  judgeTransportError,
  shapeRefusal,
  type Failure,
} from './failure.ts'

export type AttemptResult =
  /** The sink has everything, or the caller's mistake as the instance worded it. */
  | { kind: 'answered' }
  /** Nothing, or only a part, has reached the sink. */
  | { kind: 'failed'; failure: Failure; committed: boolean }
  | { kind: 'cancelled' }

/** A whole answer is held back up to this size: until it is complete, another instance can still take over. */
const heldBytesMax = 1024 * 1024
/** An answer that is not a stream ends here at the latest. */
const answerBytesMax = 256 * 1024 * 1024
/** A single event of a stream. */
const eventBytesMax = 4 * 1024 * 1024
/** What is kept of an error's body. */
const errorBytesMax = 64 * 1024

const errorKey = Buffer.from('{"error"')
const doneMark = Buffer.from('[DONE]')

/**
 * One try of a call on one instance: sends it, holds the answer back until it is known to be one, and passes it to
 * the sink. Counts the instance's requests in flight and the bytes that wait there, exactly, on every way out.
 *
 *   a whole answer:  collected -> checked -> head and body together
 *   a large one:     head once `heldBytesMax` have come, then chunk by chunk
 *   a stream:        head with the first whole event, then event by event
 */
export class Attempt implements Receiver {
  readonly #call: Call
  readonly #sink: Sink
  readonly #clock: Clock
  readonly #instance: Instance
  readonly #publicModel: string
  readonly #number: number
  readonly #startedAtMs: number
  readonly #resume = () => this.#exchange?.resume()
  readonly #onAbort = () => {
    this.#exchange?.abort()
    this.#settle({ kind: 'cancelled' })
  }
  #signal: AbortSignal | null = null
  #exchange: Exchange | null = null
  #finish: ((result: AttemptResult) => void) | null = null

  #status = 0
  #contentType = ''
  #retryAfter: string | null = null
  #isSuccess = false
  #isStream = false
  #committed = false
  #doneSeen = false
  #bytes = 0
  #waitingBytes = 0
  /** A whole answer so far, or the unfinished event at the end of a stream so far. */
  #held: Buffer[] = []

  constructor(parts: {
    call: Call
    sink: Sink
    clock: Clock
    instance: Instance
    /** The model as it is called here, which `instance` may know by another name. */
    model: string
    /** 1 for the first try. */
    number: number
  }) {
    this.#call = parts.call
    this.#sink = parts.sink
    this.#clock = parts.clock
    this.#instance = parts.instance
    this.#publicModel = parts.model
    this.#number = parts.number
    this.#startedAtMs = parts.clock.now()
  }

  /** Resolves with what came of it. When `signal` is aborted, the instance is free at once. */
  run(signal: AbortSignal): Promise<AttemptResult> {
    this.#signal = signal
    this.#instance.inFlight += 1
    signal.addEventListener('abort', this.#onAbort)
    const body = this.#call.bodyFor(this.#instance.spec.models.get(this.#publicModel) ?? this.#publicModel)
    this.#waitingBytes = body.length
    this.#instance.waitingBytes += body.length
    return new Promise((resolve) => {
      this.#finish = resolve
      try {
        this.#exchange = this.#instance.connections.send(
          {
            method: 'POST',
            path: this.#call.path,
            headers: [
              'content-type',
              'application/json',
              'x-request-id',
              this.#call.id,
              ...this.#call.headers,
            ],
            body,
          },
          this,
        )
      } catch (error) {
        // The connections are closed: the instance has just left the fleet.
        this.onError(error as Error)
      }
    })
  }

  onHead(status: number, headers: Record<string, string | string[] | undefined>): void {
    this.#status = status
    this.#contentType = String(headers['content-type'] ?? '')
    this.#retryAfter = headers['retry-after'] === undefined ? null : String(headers['retry-after'])
    this.#isSuccess = status >= 200 && status < 300
    this.#isStream = this.#isSuccess && this.#contentType.startsWith('text/event-stream')
  }

  onData(chunk: Buffer): boolean {
    if (this.#bytes === 0) this.#onFirstByte()
    this.#bytes += chunk.length
    if (this.#isStream) return this.#onStreamData(chunk)
    if (!this.#isSuccess) {
      if (this.#bytes <= errorBytesMax) this.#held.push(chunk)
      return true
    }
    return this.#onBodyData(chunk)
  }

  onEnd(): void {
    if (this.#isStream) return this.#onStreamEnd()
    const body = this.#held.length === 1 ? (this.#held[0] as Buffer) : Buffer.concat(this.#held)
    return this.#isSuccess ? this.#onBodyEnd(body) : this.#onRefused(body)
  }

  onError(error: Error): void {
    this.#fail(judgeTransportError(error))
  }

  #onFirstByte(): void {
    this.#leaveQueue()
    if (!this.#isSuccess) return
    const nowMs = this.#clock.now()
    observeLatency(this.#instance.latency, nowMs - this.#startedAtMs, nowMs)
  }

  /** The instance has taken the request in: it no longer stands in the way of others. */
  #leaveQueue(): void {
    this.#instance.waitingBytes -= this.#waitingBytes
    this.#waitingBytes = 0
  }

  #onBodyData(chunk: Buffer): boolean {
    if (this.#committed) {
      if (this.#bytes <= answerBytesMax) return this.#sink.data(chunk, this.#resume)
      this.#cut(judgeInvalidAnswer(`with more than ${answerBytesMax} bytes`))
      return true
    }
    this.#held.push(chunk)
    if (this.#bytes <= heldBytesMax) return true
    const body = Buffer.concat(this.#held)
    const failure = this.#judgeStart(body)
    if (failure) {
      this.#cut(failure)
      return true
    }
    this.#held = []
    this.#commit(null)
    return this.#sink.data(body, this.#resume)
  }

  #onStreamData(chunk: Buffer): boolean {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([...this.#held, chunk])
    const end = endOfLastEvent(bytes)
    this.#held = end === bytes.length ? [] : [bytes.subarray(end)]
    if (bytes.length - end > eventBytesMax) {
      this.#cut(judgeInvalidAnswer(`with an event of more than ${eventBytesMax} bytes`))
      return true
    }
    if (end === 0) return true
    const events = end === bytes.length ? bytes : bytes.subarray(0, end)
    if (!this.#committed) {
      const failure = judgeFirstEvent(events)
      if (failure) {
        this.#cut(failure)
        return true
      }
      this.#commit(null)
    }
    if (!this.#doneSeen && events.includes(doneMark)) this.#doneSeen = true
    return this.#sink.data(events, this.#resume)
  }

  #onBodyEnd(body: Buffer): void {
    if (!this.#committed) {
      const failure = this.#judgeBody(body)
      if (failure) return this.#fail(failure)
      this.#commit(body.length)
      this.#sink.data(body, this.#resume)
    }
    this.#succeed()
  }

  #onRefused(body: Buffer): void {
    const failure = judgeStatus(this.#status, this.#retryAfter, body)
    if (failure) return this.#fail(failure)
    const shaped = shapeRefusal(body)
    this.#contentType = 'application/json'
    this.#commit(shaped.length)
    this.#sink.data(shaped, this.#resume)
    this.#succeed()
  }

  #onStreamEnd(): void {
    if (this.#bytes === 0) return this.#fail(judgeInvalidAnswer('nothing'))
    if (!this.#doneSeen || this.#held.length > 0) {
      return this.#fail(judgeInvalidAnswer('a stream that breaks off'))
    }
    this.#succeed()
  }

  #judgeBody(body: Buffer): Failure | null {
    if (body.length === 0) return judgeInvalidAnswer('nothing')
    const failure = this.#judgeStart(body)
    if (failure) return failure
    return /\}\s*$/.test(body.subarray(-16).toString('latin1'))
      ? null
      : judgeInvalidAnswer('half a JSON text')
  }

  /** An answer is a JSON object without an error in it; its first bytes tell. */
  #judgeStart(body: Buffer): Failure | null {
    const start = body.subarray(0, 64).toString('latin1')
    if (!/^\s*\{/.test(start))
      return judgeInvalidAnswer(`something that is not JSON (${this.#contentType || 'no content type'})`)
    if (!/^\s*\{\s*"error"\s*:\s*(?!null)/.test(start)) return null
    try {
      return judgeErrorInside((JSON.parse(body.toString('utf8')) as { error: unknown }).error)
    } catch {
      return judgeInvalidAnswer('half a JSON text')
    }
  }

  #commit(contentLength: number | null): void {
    this.#committed = true
    this.#sink.head({
      status: this.#status,
      contentType: this.#contentType || 'application/json',
      instance: this.#instance,
      model: this.#publicModel,
      contentLength,
      attempts: this.#number,
      retryAfter: this.#retryAfter,
    })
  }

  #succeed(): void {
    this.#sink.end()
    this.#settle({ kind: 'answered' })
  }

  /** Stops an answer that goes on although it is of no use. */
  #cut(failure: Failure): void {
    this.#exchange?.abort()
    this.#fail(failure)
  }

  #fail(failure: Failure): void {
    this.#settle({ kind: 'failed', failure, committed: this.#committed })
  }

  #settle(result: AttemptResult): void {
    const finish = this.#finish
    if (!finish) return
    this.#finish = null
    this.#held = []
    this.#leaveQueue()
    this.#instance.inFlight -= 1
    this.#signal?.removeEventListener('abort', this.#onAbort)
    finish(result)
  }
}

function judgeFirstEvent(events: Buffer): Failure | null {
  if (!events.includes(errorKey)) return null
  const first =
    splitEvents(events)
      .map(readEventData)
      .find((data) => data !== null) ?? ''
  if (!first.startsWith('{"error"')) return null
  try {
    return judgeErrorInside((JSON.parse(first) as { error: unknown }).error)
  } catch {
    return judgeInvalidAnswer('half a JSON text')
  }
}
