import type { CancelSignal } from '../core/cancellation.ts'
import type { Clock } from '../core/clock.ts'
import { isWholeObject } from '../core/json.ts'
import { EventAssembler, isEventStream } from '../core/sse.ts'
import type { Instance } from '../fleet/instance.ts'
import { observeLatency } from '../fleet/latency.ts'
import type { Exchange, Receiver } from '../fleet/transport.ts'
import type { Call, Sink } from './call.ts'
import type { Deadlines, Timed } from './deadlines.ts'
import {
  judgeEvents,
  judgeInvalidAnswer,
  judgeStart,
  judgeStatus,
  judgeTransportError,
  shapeRefusal,
  type Failure,
} from './failure.ts'
import type { HealthBook, Tried } from './health-book.ts'

export type AttemptResult =
  /** The sink has everything, or the caller's mistake as the instance worded it. */
  | { kind: 'answered' }
  /** Nothing, or only a part, has reached the sink. */
  | { kind: 'failed'; failure: Failure; committed: boolean }
  | { kind: 'cancelled' }

/** Two attempts at one call; see `race.ts`. */
type Contest = {
  /** There is no first byte after `hedgeAfterMs`. */
  onSlow(): void
  /** The answer of `attempt` goes out from here on. */
  onCommit(attempt: Attempt): void
}

/** A whole answer is held back up to this size: until it is complete, another instance can still take over. */
const heldBytesMax = 1024 * 1024
/** An answer that is not a stream ends here at the latest. */
const answerBytesMax = 256 * 1024 * 1024
/** A single event of a stream. */
const eventBytesMax = 4 * 1024 * 1024
/** What is kept of an error's body. */
const errorBytesMax = 64 * 1024
const closeBracket = 0x5d
const late = { code: 'upstream_timeout', retryable: true, harmful: true, busyForMs: 0 } as const
const tooLate: Failure = { ...late, message: 'The model instance did not begin to answer in time.' }
const fellSilent: Failure = {
  ...late,
  message: 'The model instance fell silent in the middle of its answer.',
}

/**
 * One try of a call on one instance: sends it, holds the answer back until it is known to be one, and passes it to
 * the sink. Counts the instance's requests in flight and the bytes that wait there, and tells the book of health how
 * it went, exactly once on every way out.
 *
 *   a whole answer:  collected -> checked -> head and body together
 *   a large one:     head once `heldBytesMax` have come, then chunk by chunk
 *   a stream:        head with the first event that has data, then event by event, until its end mark
 */
export class Attempt implements Receiver, Timed, Tried {
  readonly call: Call
  readonly instance: Instance
  /** The model as it is called here, which `instance` may know by another name. */
  readonly model: string
  /** 1 for the first try of a call; of two at once, both count. */
  number: number
  race: Contest | null = null
  readonly #sink: Sink
  readonly #clock: Clock
  readonly #book: HealthBook
  readonly #startedAtMs: number
  readonly #deadlines: Deadlines
  readonly #idleMs: number
  /** The first data must be there by then. */
  readonly #beginByMs: number
  readonly #resume = () => {
    this.deadlineMs = this.#clock.now() + this.#idleMs
    this.#exchange?.resume()
  }
  readonly #onAbort = () => {
    this.#exchange?.abort()
    this.#settle({ kind: 'cancelled' })
  }
  /** Until the first data: the time to hedge, then the time limit for it. After it: between two chunks. */
  deadlineMs: number
  place = -1
  #signal: CancelSignal | null = null
  /** From the request to the first data; -1 while there is none. */
  #waitedMs = -1
  #exchange: Exchange | null = null
  #finish: ((result: AttemptResult) => void) | null = null

  #status = 0
  #contentType = ''
  #retryAfter: string | null = null
  /** Set for a stream: brings its pieces together. */
  #events: EventAssembler | null = null
  #committed = false
  #bytes = 0
  #waitingBytes = 0
  /** A whole answer so far, or the events of a stream in front of its first data. */
  #held: Buffer[] = []

  constructor(parts: {
    call: Call
    sink: Sink
    clock: Clock
    /** Monotonic milliseconds: it begins. */
    nowMs: number
    instance: Instance
    model: string
    number: number
    deadlines: Deadlines
    book: HealthBook
    /** From the request to the first data of its answer. */
    firstByteMs: number
    /** Between two chunks of it. */
    idleMs: number
    /** After this long without data `race` is told; 0 for never. */
    hedgeAfterMs: number
  }) {
    this.call = parts.call
    this.#sink = parts.sink
    this.#clock = parts.clock
    this.instance = parts.instance
    this.model = parts.model
    this.number = parts.number
    this.#book = parts.book
    this.#deadlines = parts.deadlines
    this.#idleMs = parts.idleMs
    this.#startedAtMs = parts.nowMs
    this.#beginByMs = this.#startedAtMs + parts.firstByteMs
    this.deadlineMs =
      parts.hedgeAfterMs > 0
        ? Math.min(this.#startedAtMs + parts.hedgeAfterMs, this.#beginByMs)
        : this.#beginByMs
  }

  /** Resolves with what came of it. When `signal` is aborted, the instance is free at once. */
  run(signal: CancelSignal): Promise<AttemptResult> {
    const body = this.call.bodyFor(this.instance.spec.models.get(this.model) ?? this.model)
    this.#signal = signal
    this.instance.inFlight += 1
    this.instance.breaker.enter(this, this.#startedAtMs)
    signal.addEventListener('abort', this.#onAbort)
    // Time limits of our own: the transport's start anew with every 1xx answer, and comments are no answer either.
    this.#deadlines.add(this)
    this.#waitingBytes = body.length
    this.instance.waitingBytes += body.length
    return new Promise((resolve) => {
      this.#finish = resolve
      try {
        this.#exchange = this.instance.connections.send(
          {
            method: 'POST',
            path: this.call.path,
            headers: ['content-type', 'application/json', 'x-request-id', this.call.id, ...this.call.headers],
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
    if (status === 200 && isEventStream(this.#contentType))
      this.#events = new EventAssembler({ eventBytesMax })
  }

  onData(chunk: Buffer): boolean {
    // Behind the end mark of a stream nothing counts any more.
    if (!this.#finish) return true
    this.#bytes += chunk.length
    if (this.#waitedMs >= 0) this.deadlineMs = this.#clock.now() + this.#idleMs
    if (this.#status !== 200) return this.#onErrorData(chunk)
    const goesOn = this.#events ? this.#onStreamData(this.#events, chunk) : this.#onBodyData(chunk)
    // While the caller takes nothing, the instance's silence is not its own.
    if (!goesOn) this.deadlineMs = Infinity
    return goesOn
  }

  onDeadline(): void {
    if (this.#waitedMs >= 0) return this.#cut(fellSilent)
    if (this.deadlineMs >= this.#beginByMs) return this.#cut(tooLate)
    this.deadlineMs = this.#beginByMs
    this.race?.onSlow()
  }

  /** Ends it at once: its caller is gone, or another attempt was faster. */
  cancel(): void {
    this.#onAbort()
  }

  waitedMs(nowMs: number): number {
    return this.#waitedMs >= 0 ? this.#waitedMs : nowMs - this.#startedAtMs
  }

  onEnd(): void {
    if (this.#events) {
      // A stream that was whole is settled already.
      this.#fail(judgeInvalidAnswer(this.#bytes === 0 ? 'nothing' : 'a stream that breaks off'))
      return
    }
    const body = this.#held.length === 1 ? (this.#held[0] as Buffer) : Buffer.concat(this.#held)
    if (this.#status === 200) this.#onBodyEnd(body)
    else this.#onRefused(body)
  }

  onError(error: Error): void {
    this.#fail(judgeTransportError(error))
  }

  /** The first data of an answer: the instance has taken the request in and is working on it. */
  #onFirstData(): void {
    this.#leaveQueue()
    const nowMs = this.#clock.now()
    this.#waitedMs = nowMs - this.#startedAtMs
    this.deadlineMs = nowMs + this.#idleMs
    observeLatency(this.instance.latency, this.#waitedMs, nowMs)
  }

  /** The request no longer stands in the way of others. */
  #leaveQueue(): void {
    this.instance.waitingBytes -= this.#waitingBytes
    this.#waitingBytes = 0
  }

  #onErrorData(chunk: Buffer): boolean {
    this.#held.push(chunk)
    if (this.#bytes <= errorBytesMax) return true
    // Enough to quote from; the rest is not waited for.
    this.#exchange?.abort()
    this.#onRefused(Buffer.concat(this.#held))
    return true
  }

  #onBodyData(chunk: Buffer): boolean {
    if (this.#bytes === chunk.length) this.#onFirstData()
    if (this.#committed) {
      if (this.#bytes <= answerBytesMax) return this.#sink.data(chunk, this.#resume)
      this.#cut(judgeInvalidAnswer(`with more than ${answerBytesMax} bytes`))
      return true
    }
    this.#held.push(chunk)
    if (this.#bytes <= heldBytesMax) return true
    const body = Buffer.concat(this.#held)
    const failure = judgeStart(body, this.#contentType)
    if (failure) {
      this.#cut(failure)
      return true
    }
    this.#held = []
    this.#commit(null)
    return this.#sink.data(body, this.#resume)
  }

  #onBodyEnd(body: Buffer): void {
    if (this.#committed) return this.#succeed()
    const failure = judgeStart(body, this.#contentType)
    if (failure) return this.#fail(failure)
    if (!isWholeObject(body)) return this.#fail(judgeInvalidAnswer('half a JSON text'))
    this.#commit(body.length)
    this.#sink.data(body, this.#resume)
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

  #onStreamData(assembler: EventAssembler, chunk: Buffer): boolean {
    let events = assembler.push(chunk)
    if (assembler.isOverfull) {
      this.#cut(judgeInvalidAnswer(`with an event of more than ${eventBytesMax} bytes`))
      return true
    }
    if (events === null) return true
    if (!this.#committed) {
      const start = judgeEvents(events)
      if (start.failure) {
        this.#cut(start.failure)
        return true
      }
      if (this.#held.length > 0) events = Buffer.concat([...this.#held, events])
      if (!start.hasData) {
        // Comments alone are no answer yet: another instance may still have to give it.
        this.#held = [events]
        if (events.length > eventBytesMax) this.#cut(judgeInvalidAnswer('comments without end'))
        return true
      }
      this.#held = []
      this.#onFirstData()
      this.#commit(null)
    }
    const hasRoom = this.#sink.data(events, this.#resume)
    if (endsWithDone(events)) this.#succeed()
    return hasRoom
  }

  #commit(contentLength: number | null): void {
    this.#committed = true
    // The loser is cut before a byte of the winner goes out.
    this.race?.onCommit(this)
    this.#book.answered(this, this.#clock.now())
    this.#sink.head({
      status: this.#status,
      contentType: this.#contentType || 'application/json',
      instance: this.instance,
      model: this.model,
      contentLength,
      attempts: this.number,
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
    this.#deadlines.delete(this)
    this.#leaveQueue()
    this.instance.inFlight -= 1
    this.#signal?.removeEventListener('abort', this.#onAbort)
    const nowMs = this.#clock.now()
    if (result.kind === 'answered') this.#book.completed(this, nowMs)
    else if (result.kind === 'failed') this.#book.failed(this, result.failure, result.committed, nowMs)
    else if (!this.#committed) this.#book.cutOff(this, nowMs)
    this.instance.breaker.leave(this)
    finish(result)
  }
}

/** Whether the last event is the end mark. What comes behind it, an end, silence or a broken line, is no matter. */
function endsWithDone(events: Buffer): boolean {
  const { length } = events
  // A bracket in front of the line ends: cheap to see, and rare elsewhere.
  if (events[length - 3] !== closeBracket && events[length - 5] !== closeBracket) return false
  return /(^|[\r\n])data: ?\[DONE\](\r\n?|\n){2}$/.test(events.subarray(-24).toString('latin1'))
}
