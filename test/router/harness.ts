import { strict as assert } from 'node:assert'
import pino from 'pino'
import type { ApiError } from '../../src/core/errors.ts'
import { Instance } from '../../src/fleet/instance.ts'
import { Registry } from '../../src/fleet/registry.ts'
import { Exchange, type Connections, type Receiver } from '../../src/fleet/transport.ts'
import type { AnswerHead, Call, Sink } from '../../src/router/call.ts'
import { Router, type RoutingRules, type RunOptions } from '../../src/router/router.ts'
import { ManualClock } from '../helpers/clock.ts'
import { chatEvent, doneEvent } from '../helpers/upstream.ts'

export const rules: RoutingRules = {
  policy: 'round_robin',
  policies: {},
  aliases: {},
  fallbacks: {},
  retryRatio: 0,
  retryReserve: 1_000,
  attemptsMax: 3,
  firstByteMs: 10_000,
  idleMs: 10_000,
  hedgeAfterMs: 0,
  health: {
    ejectAfterFailures: 1_000,
    ejectBaseMs: 30_000,
    ejectShareMax: 0.5,
    breakerWindowMs: 10_000,
    breakerCallsMin: 4,
    breakerShare: 0.5,
    breakerSlowMs: 0,
    breakerOpenMs: 5_000,
  },
}

/** One request that an instance has got. The test answers it; it is the instance's side of the wire. */
export class Asked {
  readonly id: string
  readonly #exchange: Exchange
  /** Whether the gateway has cut it. */
  isCut = false
  readonly #controller = {
    abort: () => (this.isCut = true),
    pause: () => {},
    resume: () => {},
  } as never

  constructor(id: string, receiver: Receiver) {
    this.id = id
    this.#exchange = new Exchange(receiver)
    this.#exchange.onRequestStart(this.#controller)
  }

  get exchange(): Exchange {
    return this.#exchange
  }

  status(
    status: number,
    headers: Record<string, string> = {},
    body = '{"error":{"message":"said so"}}',
  ): void {
    this.#exchange.onResponseStart(this.#controller, status, {
      'content-type': 'application/json',
      ...headers,
    })
    this.#exchange.onResponseData(this.#controller, Buffer.from(body))
    this.#exchange.onResponseEnd()
  }

  /** A whole JSON answer, which names its instance. */
  answer(): void {
    this.status(200, {}, JSON.stringify({ from: this.id }))
  }

  /** The first event of a stream. */
  begin(): void {
    this.#exchange.onResponseStart(this.#controller, 200, { 'content-type': 'text/event-stream' })
    this.event()
  }

  event(): void {
    this.#exchange.onResponseData(this.#controller, Buffer.from(chatEvent(this.id)))
  }

  done(): void {
    this.#exchange.onResponseData(this.#controller, Buffer.from(doneEvent))
    this.#exchange.onResponseEnd()
  }

  /** The connection breaks. */
  drop(): void {
    this.#exchange.onResponseError(this.#controller, new Error('dropped'))
  }
}

/** What a caller has got of one call. */
export class Caller implements Sink {
  readonly heads: AnswerHead[] = []
  readonly controller = new AbortController()
  text = ''
  ends = 0
  /** What it was told at the end. */
  readonly settlements: unknown[] = []
  error: ApiError | null = null
  over: Promise<void> = Promise.resolve()

  head(head: AnswerHead): void {
    this.heads.push(head)
  }
  data(chunk: Buffer): boolean {
    this.text += chunk.toString()
    return true
  }
  end(): void {
    this.ends += 1
  }
  settled(thrown: unknown): void {
    this.settlements.push(thrown)
  }

  /** The instance that answered, or the code of the error. */
  get outcome(): string {
    return this.error?.code ?? this.heads[0]?.instance.id ?? 'nothing yet'
  }
}

/** A router over instances whose answers the test gives, in a time that stands still. */
export class Bench {
  readonly clock = new ManualClock()
  readonly registry = new Registry()
  readonly router: Router
  /** All requests that have reached an instance, in order. */
  readonly asked: Asked[] = []
  #calls = 0

  constructor(ids: Record<string, readonly string[]> | readonly string[], more: Partial<RoutingRules> = {}) {
    const models = Array.isArray(ids)
      ? { m: ids as readonly string[] }
      : (ids as Record<string, readonly string[]>)
    for (const [model, names] of Object.entries(models)) for (const id of names) this.add(id, model)
    this.router = new Router({
      registry: this.registry,
      rules: { ...rules, ...more },
      clock: this.clock,
      log: pino({ level: 'silent' }),
      random: () => 0.5,
    })
  }

  add(id: string, model: string): void {
    const connections = {
      send: (_request: unknown, receiver: Receiver) => {
        const asked = new Asked(id, receiver)
        this.asked.push(asked)
        return asked.exchange
      },
    } as unknown as Connections
    const endpoint = { origin: 'http://x', basePath: '', socketPath: null, apiKey: null }
    const spec = { id, kind: 'remote', endpoint, weight: 1, inFlightMax: 100, slots: 8, areSlotsKnown: true, probe: 'off', models: new Map([[model, model]]) } as const // prettier-ignore
    const instance = new Instance(spec, connections)
    this.registry.add(instance)
    this.registry.move(instance, 'ready')
  }

  instance(id: string): Instance {
    return this.registry.all.find((instance) => instance.id === id) as Instance
  }

  get inFlight(): number {
    return this.registry.all.reduce((sum, { inFlight }) => sum + inFlight, 0)
  }

  get waitingBytes(): number {
    return this.registry.all.reduce((sum, { waitingBytes }) => sum + waitingBytes, 0)
  }

  /** Starts a call; its first attempt is `asked.at(-1)` when this returns. */
  call(options?: RunOptions, model = 'm'): Caller {
    this.#calls += 1
    const caller = new Caller()
    const call: Call = {
      id: `call-${this.#calls}`,
      path: '/chat/completions',
      model,
      stream: false,
      headers: [],
      sessionKey: null,
      prefixBlocks: () => [],
      bodyFor: () => Buffer.from('{}'),
    }
    caller.over = this.router
      .run(call, caller, caller.controller.signal, options)
      .catch((error: unknown) => {
        caller.error = error as ApiError
      })
      // Whatever the test is about: nobody is left without the end of its call, or told of it twice.
      .then(() => assert.deepEqual(caller.settlements, [caller.error]))
    return caller
  }

  /** A call whose instances all behave alike, until it is over. */
  async through(react: (asked: Asked) => void, options?: RunOptions, model = 'm'): Promise<Caller> {
    const from = this.asked.length
    const caller = this.call(options, model)
    for (let seen = from; seen < this.asked.length;) {
      for (; seen < this.asked.length; seen += 1) react(this.asked[seen] as Asked)
      await settled()
    }
    await caller.over
    return caller
  }
}

/** What was resolved has had its consequences. */
export const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

export const answer = (asked: Asked): void => asked.answer()
export const breakDown = (asked: Asked): void => asked.status(500)
