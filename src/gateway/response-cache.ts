import type { IncomingHttpHeaders } from 'node:http'
import { Cancellation, type CancelSignal } from '../core/cancellation.ts'
import { fail } from '../core/errors.ts'
import { endOfLastEvent, isEventStream } from '../core/sse.ts'
import type { Registry } from '../fleet/registry.ts'
import type { Call, Sink } from '../router/call.ts'
import type { ParsedCall } from '../router/calls/completion-call.ts'
import type { Router } from '../router/router.ts'
import type { FoundAnswer, ResultCache } from '../storage/result-cache.ts'
import { isWorthKeeping } from './answer-check.ts'
import { readCacheControl, type CacheWish } from './cache-control.ts'
import type { RequestRecord } from './request-record.ts'
import { describeAsides, isDeterministic, makeCacheKey } from './response-cache-key.ts'
import { NotShared, SharedAnswer } from './shared-answer.ts'

/** What is known of a call that the cache takes part in. */
export type CachePlan = {
  key: string
  wish: CacheWish
  tenant: string
  model: string
  /** What the answers of the model came from when the call came. */
  version: string
  asides: string
}

/** A stream is given again in pieces of about this size, so that a slow client holds no more of its own. */
const pieceBytes = 16 * 1024

/**
 * Answers equal calls with one answer: from the cache, or from the one call that is under way. Every client of such
 * a call is a reader of it, the first one too: the call goes on as long as anybody waits, and ends when nobody does.
 */
export class ResponseCache {
  readonly #cache: ResultCache
  readonly #router: Pick<Router, 'run'>
  readonly #registry: Pick<Registry, 'versionOf'>
  /** Calls under way that others may join. There are no more of them than calls in flight. */
  readonly #flights = new Map<string, SharedAnswer>()

  constructor(parts: {
    cache: ResultCache
    router: Pick<Router, 'run'>
    registry: Pick<Registry, 'versionOf'>
  }) {
    this.#cache = parts.cache
    this.#router = parts.router
    this.#registry = parts.registry
  }

  /** How many calls are under way that others may join. */
  get flights(): number {
    return this.#flights.size
  }

  /** Decides whether the cache takes part in a call to `model`. Null, after a look at a few fields, when it does not. */
  plan(
    call: ParsedCall,
    from: { headers: IncomingHttpHeaders; tenant: string; model: string | null },
  ): CachePlan | null {
    const { headers, tenant, model } = from
    if (model === null || !this.#cache.isEnabled) return null
    const wish = readCacheControl(headers['cache-control'])
    const fields = call.cacheFields()
    if (!wish.writes || (wish.maxAgeMs === null && !isDeterministic(call.path, fields))) return null
    const version = this.#registry.versionOf(model)
    const key = makeCacheKey({ path: call.path, stream: call.stream, fields }, { tenant, model, version })
    return key === null ? null : { key, wish, tenant, model, version, asides: describeAsides(fields) }
  }

  /** Brings the answer to a planned call into `sink`; throws as `Router.run` does. */
  async answer(
    call: Call,
    plan: CachePlan,
    client: { sink: Sink; record: RequestRecord; signal: CancelSignal },
  ): Promise<void> {
    const { record, signal } = client
    if (plan.wish.reads) {
      const found = await this.#look(plan)
      if (signal.aborted) throw fail('client_closed')
      if (found) {
        record.cache = 'hit'
        record.cacheAgeMs = found.ageMs
        return replay(found, client.sink, signal)
      }
      const flight = this.#flights.get(plan.key)
      if (flight?.isOpen) return this.#join(flight, call, plan, client)
    }
    record.cache = 'miss'
    const { sink } = client
    return this.#lead(call, plan).follow({ sink, asides: plan.asides, signal })
  }

  async #look({ key, wish }: CachePlan): Promise<FoundAnswer | null> {
    let found = this.#cache.peek(key)
    if (found === null && !this.#flights.has(key)) {
      const stored = await this.#cache.find(key)
      // An equal call may have been answered while the storage was asked.
      found = this.#cache.peek(key) ?? stored
    }
    return found !== null && found.ageMs <= (wish.maxAgeMs ?? Infinity) ? found : null
  }

  /** Makes the call, and lets others join it. */
  #lead(call: Call, plan: CachePlan): SharedAnswer {
    const stop = new Cancellation()
    const flight = new SharedAnswer({
      bytesMax: this.#cache.entryBytesMax,
      asides: plan.asides,
      onEmpty: () => {
        this.#forget(plan.key, flight)
        stop.abort()
      },
    })
    if (!this.#flights.get(plan.key)?.isOpen) this.#flights.set(plan.key, flight)
    this.#router.run(call, flight, stop).then(
      () => {
        this.#forget(plan.key, flight)
        this.#keep(plan, flight)
      },
      (error: unknown) => {
        this.#forget(plan.key, flight)
        flight.fail(error)
      },
    )
    return flight
  }

  async #join(
    flight: SharedAnswer,
    call: Call,
    plan: CachePlan,
    { sink, record, signal }: { sink: Sink; record: RequestRecord; signal: CancelSignal },
  ): Promise<void> {
    record.cache = 'hit'
    record.cacheAgeMs = 0
    try {
      await flight.follow({ sink: withoutAttempts(sink), asides: plan.asides, signal })
    } catch (error) {
      if (!(error instanceof NotShared)) throw error
      record.cache = 'miss'
      record.cacheAgeMs = null
      await this.#router.run(call, sink, signal)
    }
  }

  #forget(key: string, flight: SharedAnswer): void {
    if (this.#flights.get(key) === flight) this.#flights.delete(key)
  }

  /** Keeps an answer for those who come later, if it is one that they should have. */
  #keep({ key, tenant, model, version }: CachePlan, flight: SharedAnswer): void {
    const whole = flight.take()
    if (whole === null || whole.head.status !== 200) return
    const { head, body } = whole
    // A fallback has answered, or the model has become another one meanwhile: the key would promise too much.
    if (head.model !== model || this.#registry.versionOf(model) !== version) return
    const isStream = isEventStream(head.contentType)
    if (!isWorthKeeping(body, isStream)) return
    const { status, contentType } = head
    this.#cache.put(key, tenant, { status, contentType, isStream, model, instance: head.instance.id, body })
  }
}

/** Gives an answer again as it came: a stream as a stream. */
function replay({ answer }: FoundAnswer, sink: Sink, signal: CancelSignal): Promise<void> {
  const { body, isStream } = answer
  const again = new SharedAnswer({ bytesMax: body.length, asides: '', onEmpty: () => {} })
  again.head({
    status: answer.status,
    contentType: answer.contentType,
    instance: { id: answer.instance },
    model: answer.model,
    contentLength: isStream ? null : body.length,
    attempts: 0,
    retryAfter: null,
  })
  for (const piece of isStream ? cutStream(body) : [body]) again.data(piece, () => {})
  again.end()
  return again.follow({ sink, asides: '', signal })
}

/** The pieces of a stream, each of whole events. */
function* cutStream(body: Buffer): Generator<Buffer> {
  let start = 0
  let wanted = pieceBytes
  while (body.length - start > wanted) {
    const length = endOfLastEvent(body.subarray(start, start + wanted))
    if (length > 0) yield body.subarray(start, start + length)
    start += length
    wanted = length > 0 ? pieceBytes : wanted * 2
  }
  yield body.subarray(start)
}

/** A call that was spared tried no instance. */
function withoutAttempts(sink: Sink): Sink {
  return {
    head: (head) => sink.head({ ...head, attempts: 0 }),
    data: (chunk, resume) => sink.data(chunk, resume),
    end: () => sink.end(),
  }
}
