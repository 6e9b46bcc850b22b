import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import fc from 'fast-check'
import { fail, type ApiError } from '../../src/core/errors.ts'
import { readCacheControl } from '../../src/gateway/cache-control.ts'
import { ResponseCache, type CachePlan } from '../../src/gateway/response-cache.ts'
import type { RequestRecord } from '../../src/gateway/request-record.ts'
import type { AnswerHead, Call, Sink } from '../../src/router/call.ts'
import { ResultCache } from '../../src/storage/result-cache.ts'
import { openLog } from '../../src/telemetry/log.ts'
import { systemClock } from '../../src/core/clock.ts'
import { FakeCacheStore } from '../helpers/cache-store.ts'
import { ManualClock } from '../helpers/clock.ts'

const { log } = openLog({ level: 'silent', format: 'json' }, systemClock)
const event = (text: string) => Buffer.from(`data: ${JSON.stringify({ text })}\n\n`)
const done = Buffer.from('data: [DONE]\n\n')

/** A model call that goes on step by step, when the test says so. */
class FakeCall {
  readonly answer: string
  readonly #pieces: Buffer[]
  readonly #sink: Sink
  readonly #failsAt: number
  readonly #refusal: boolean
  readonly settled = Promise.withResolvers<void>()
  isOver = false
  isPaused = false
  aborted = false
  #at = -1

  constructor(options: { key: string; number: number; pieces: number; size: number; failsAt: number; refusal: boolean }, sink: Sink, signal: AbortSignal) {
    const texts = Array.from({ length: options.pieces }, (_, at) => `${options.key} ${options.number} ${at} ${'x'.repeat(options.size)}`)
    this.#pieces = [...texts.map(event), done]
    this.answer = Buffer.concat(this.#pieces).toString()
    this.#sink = sink
    this.#failsAt = options.failsAt
    this.#refusal = options.refusal
    const stop = () => {
      this.aborted = true
      this.#finish(fail('client_closed'))
    }
    if (signal.aborted) stop()
    signal.addEventListener('abort', stop)
  }

  step(): void {
    if (this.isOver || this.isPaused) return
    if (this.#at === this.#failsAt) return this.#finish(fail('upstream_failed'))
    this.#at += 1
    if (this.#at === 0) {
      const head: AnswerHead = { status: this.#refusal ? 400 : 200, contentType: 'text/event-stream', instance: { id: 'i' }, model: 'm', contentLength: null, attempts: 1, retryAfter: null }
      return this.#sink.head(head)
    }
    const piece = this.#pieces[this.#at - 1]
    if (piece === undefined) {
      this.#sink.end()
      return this.#finish(null)
    }
    this.isPaused = true
    if (this.#sink.data(piece, () => (this.isPaused = false))) this.isPaused = false
  }

  #finish(error: ApiError | null): void {
    if (this.isOver) return
    this.isOver = true
    if (error) this.settled.reject(error)
    else this.settled.resolve()
  }
} // prettier-ignore

/** A client that takes what it gets, or asks for a pause. */
class FakeClient implements Sink {
  readonly leaves = new AbortController()
  readonly record = { cache: null, cacheAgeMs: null } as RequestRecord
  readonly key: string
  status = 0
  text = ''
  ended = false
  outcome: 'none' | 'answered' | ApiError = 'none'
  #resume: (() => void) | null = null
  readonly #isSlow: () => boolean

  constructor(key: string, isSlow: () => boolean) {
    this.key = key
    this.#isSlow = isSlow
  }

  head(head: AnswerHead): void {
    assert.equal(this.status, 0, 'one head')
    this.#check()
    this.status = head.status
  }

  data(chunk: Buffer, resume: () => void): boolean {
    assert.ok(this.status > 0, 'head before data')
    assert.equal(this.#resume, null, 'nothing comes during a pause')
    this.#check()
    this.text += chunk.toString()
    if (!this.#isSlow()) return true
    this.#resume = resume
    return false
  }

  end(): void {
    assert.equal(this.ended, false, 'one end')
    this.#check()
    this.ended = true
  }

  resume(): void {
    const resume = this.#resume
    this.#resume = null
    resume?.()
  }

  #check(): void {
    assert.equal(this.outcome, 'none', 'nothing comes after the end')
    assert.ok(!this.leaves.signal.aborted, 'nothing comes to one who has left')
  }
}

/** Numbers in [0, 1) that are the same for the same seed (mulberry32). */
function drawFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}

function makeWorld(next: () => number, entryBytesMax: number) {
  const store = new FakeCacheStore()
  store.fault = async () => {
    await turn()
    if (next() < 0.2) throw new Error('storage fails')
  }
  const settings = { enabled: true, ttlMs: 60_000, entryBytesMax, memoryBytesMax: next() < 0.3 ? 0 : 1e6, storageBytesMax: 1e6 }
  const cache = new ResultCache({ store, clock: new ManualClock(), log, settings: () => settings })
  const calls: FakeCall[] = []
  const router = {
    run(call: Call, sink: Sink, signal: AbortSignal): Promise<void> {
      const pieces = Math.floor(next() * 6)
      const options = { key: call.id, number: calls.length, pieces, size: Math.floor(next() * 60), failsAt: next() < 0.2 ? Math.floor(next() * 8) - 1 : -2, refusal: next() < 0.1 }
      const made = new FakeCall(options, sink, signal)
      calls.push(made)
      return made.settled.promise
    },
  }
  const responses = new ResponseCache({ cache, router, registry: { versionOf: () => 'v' } })
  return { responses, calls, store }
} // prettier-ignore

test('whatever the interleaving, every client that stays gets one whole answer or one error', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer(), async (seed) => {
      const next = drawFrom(seed)
      const { responses, calls, store } = makeWorld(next, next() < 0.5 ? 150 : 1_000)
      const clients: FakeClient[] = []
      const running: Promise<void>[] = []

      const join = () => {
        const key = next() < 0.7 ? 'a' : 'b'
        const client = new FakeClient(key, () => next() < 0.3)
        const wish = { reads: next() < 0.9, writes: true, maxAgeMs: null }
        const plan: CachePlan = { key, wish, tenant: 't', model: 'm', version: 'v', asides: next() < 0.2 ? 'x' : '' }
        clients.push(client)
        const answered = responses.answer({ id: key } as Call, plan, { sink: client, record: client.record, signal: client.leaves.signal })
        running.push(answered.then(() => { client.outcome = 'answered' }, (error: ApiError) => { client.outcome = error }))
      } // prettier-ignore
      const any = <T>(from: readonly T[]) => from[Math.floor(next() * from.length)]
      for (let step = 0; step < 80; step += 1) {
        const dice = next()
        if (dice < 0.2 && clients.length < 15) join()
        else if (dice < 0.65) any(calls)?.step()
        else if (dice < 0.8) any(clients)?.resume()
        else if (dice < 0.85) any(clients)?.leaves.abort()
        else await turn()
      }
      // From here on everything moves: whoever still waits at the end has been forgotten.
      for (let round = 0; round < 200; round += 1) {
        for (const call of calls) call.step()
        for (const client of clients) client.resume()
        if (round % 8 === 0) await turn()
      }
      await turn()
      for (const client of clients) {
        assert.notEqual(client.outcome, 'none', 'nobody is forgotten')
        if (client.leaves.signal.aborted) continue
        const whole = calls.filter(({ answer }) => answer.startsWith('data') && answer === client.text)
        if (client.outcome === 'answered') {
          assert.ok(client.ended)
          assert.ok(whole.some(({ answer }) => answer === client.text), 'whole, and of one call')
          if (client.text.includes('"text"')) assert.ok(client.text.includes(`"${client.key} `), 'of its own key')
        } else {
          assert.ok(!client.ended, 'an error is no end')
          assert.equal((client.outcome as ApiError).code, 'upstream_failed', 'nobody hears of one who left')
        }
      }
      assert.ok(calls.every(({ isOver }) => isOver), 'no call goes on for nobody')
      assert.equal(responses.flights, 0)
      for (const [key, { value }] of store.entries) {
        const text = Buffer.from(value).toString()
        assert.ok(calls.some(({ answer }) => text.endsWith(answer)), 'only whole answers are kept')
        if (text.includes('"text"')) assert.ok(text.includes(`"${key} `))
      }
      await Promise.all(running)
    }),
    { numRuns: 400 },
  )
}) // prettier-ignore

test('a client that fails on its own harms nobody else', async () => {
  const { responses, calls } = makeWorld(() => 0.5, 1_000)
  const plan: CachePlan = {
    ...{ key: 'a', tenant: 't', model: 'm', version: 'v', asides: '' },
    wish: { reads: true, writes: true, maxAgeMs: null },
  }
  const good = new FakeClient('a', () => false)
  const bad = new FakeClient('a', () => {
    throw new Error('broken')
  })
  const [one, two] = [good, bad].map((sink) =>
    responses.answer({ id: 'a' } as Call, plan, { sink, record: sink.record, signal: sink.leaves.signal }),
  )
  const failed = assert.rejects(two as Promise<void>, /broken/)
  // The storage is asked first.
  while (calls.length === 0) await turn()
  await turn()
  while (!calls[0]?.isOver) calls[0]?.step()
  await one
  await failed
  assert.ok(good.ended)
  assert.equal(calls.length, 1)
})

test('Cache-Control: the strictest counts, and nonsense changes nothing', () => {
  const usual = { reads: true, writes: true, maxAgeMs: null }
  const cases: [string | undefined, object][] = [
    [undefined, usual],
    ['', usual],
    [', ,;=', usual],
    ['max-age', usual],
    ['max-age=-1', usual],
    ['max-age=1.5', usual],
    ['max-age=1e3', usual],
    ['x-no-store', usual],
    ['no-storeroom', usual],
    ['s-maxage=5, only-if-cached, min-fresh=3', usual],
    ['MAX-AGE="30"', { ...usual, maxAgeMs: 30_000 }],
    ['max-age=30, max-age=7', { ...usual, maxAgeMs: 7_000 }],
    [`max-age=${'9'.repeat(400)}`, { ...usual, maxAgeMs: 2_147_483_648_000 }],
    ['no-cache', { reads: false, writes: true, maxAgeMs: null }],
    ['no-cache="x", max-age=5', { reads: false, writes: true, maxAgeMs: null }],
    ['max-age=0', { reads: false, writes: true, maxAgeMs: null }],
    ['max-age=5,\tNO-STORE', { reads: false, writes: false, maxAgeMs: null }],
  ]
  for (const [header, expected] of cases) assert.deepEqual(readCacheControl(header), expected, String(header))
})

test('any header at all is read, quickly, into something that makes sense', () => {
  const piece = fc.oneof(
    fc.constantFrom('no-store', 'no-cache', 'max-age=', 'max-age=5', ',', '"', '=', ' ', '\t', 'NO-'),
    fc.string({ unit: 'binary', maxLength: 8 }),
    fc.integer().map(String),
  )
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 200 }), (pieces) => {
      const wish = readCacheControl(pieces.join(''))
      assert.ok(wish.writes || !wish.reads, 'what may not be kept is not read')
      assert.ok(wish.maxAgeMs === null || (wish.reads && wish.maxAgeMs > 0 && Number.isFinite(wish.maxAgeMs)))
    }),
    { numRuns: 200 },
  )
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 5 }), (pieces) => {
      const wish = readCacheControl(
        [...pieces.map((text) => text.replaceAll(/[",]/g, '')), 'no-store'].join(','),
      )
      assert.deepEqual(wish, { reads: false, writes: false, maxAgeMs: null })
    }),
  )
})
