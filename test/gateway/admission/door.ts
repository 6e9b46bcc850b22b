import type { CancelSignal } from '../../../src/core/cancellation.ts'
import { fail } from '../../../src/core/errors.ts'
import type { Capacity } from '../../../src/gateway/admission/capacity.ts'
import { Admission } from '../../../src/gateway/admission/admission.ts'
import { AdmittedRouter } from '../../../src/gateway/admission/admitted-router.ts'
import type { AdmissionSettings } from '../../../src/gateway/admission/model-gate.ts'
import type { ModelRouter } from '../../../src/queue/live-router.ts'
import type { AnswerHead, Ask, Call, Sink } from '../../../src/router/call.ts'
import { MetricsRegistry } from '../../../src/telemetry/metrics.ts'
import { ManualClock } from '../../helpers/clock.ts'

export const head: AnswerHead = { status: 200, contentType: 'text/event-stream', instance: { id: 'i' }, model: 'm', contentLength: null, attempts: 1, retryAfter: null } // prettier-ignore

/** A call that has reached the fleet: the test says what becomes of it. */
export type Begun = { call: Call; sink: Sink; answer: () => void; fail: (error: unknown) => void }

/** A call as its client sees it. */
export type Asked = {
  /** `answered`, or the code of the error; null while it lasts. */
  outcome: string | null
  error: { code: string; message: string; retryAfterMs: number | null } | null
  abort: () => void
}

/** The door in front of a fleet that does what the test says. */
export class TestDoor {
  readonly clock = new ManualClock()
  readonly metrics = new MetricsRegistry()
  readonly begun: Begun[] = []
  /** Models that are not served any more. */
  readonly gone = new Set<string>()
  readonly admission: Admission
  settings: AdmissionSettings
  capacity: Capacity = { slots: 2, start: 2, inFlightMax: 0 }
  readonly #router: AdmittedRouter

  constructor(settings: Partial<AdmissionSettings> = {}) {
    this.settings = {
      ...{ enabled: true, waitingMax: 8, waitMaxMs: 10_000, concurrencyMin: 1, ttftTargetMs: 0 },
      ...settings,
    }
    this.admission = new Admission({
      clock: this.clock,
      metrics: this.metrics,
      settings: () => this.settings,
      capacityOf: () => this.capacity,
      isServed: (model) => !this.gone.has(model),
    })
    const router: ModelRouter = {
      aliases: { other: 'm' },
      resolve: (name) => (name === 'other' ? 'm' : name === 'gone' ? null : name),
      run: (call, sink, signal) => this.#begin(call, sink, signal),
    }
    this.#router = new AdmittedRouter({ router, admission: this.admission })
  }

  /** Asks; what can be said at once is said when this returns, and `settled` has been waited for. */
  ask(more: Partial<Ask> & { model?: string; stream?: boolean; silent?: boolean } = {}): Asked {
    const { model = 'm', stream = true, silent = false, ...rest } = more
    const client = new AbortController()
    const ask: Ask = { tenant: 'a', weight: 1, tier: 'default', deadlineMs: null, tokens: 100, ...rest }
    const call: Call = {
      ...{ id: 'r', path: '/chat/completions', model, stream, headers: [], sessionKey: null },
      ...{ prefixBlocks: () => [], bodyFor: () => Buffer.alloc(0), ...(silent ? {} : { ask }) },
    }
    const asked: Asked = { outcome: null, error: null, abort: () => client.abort() }
    const sink: Sink = { head: () => {}, data: () => true, end: () => {} }
    this.#router.run(call, sink, client.signal).then(
      () => (asked.outcome = 'answered'),
      (error: Asked['error']) => {
        asked.error = error
        asked.outcome = error?.code ?? null
      },
    )
    return asked
  }

  /** Of the model `m`. */
  get sight() {
    const sight = [...this.admission.look()].find(({ model }) => model === 'm')
    const { limit = 0, inFlight = 0, waiting = { priority: 0, default: 0, flex: 0 } } = sight ?? {}
    return { limit, inFlight, waiting: waiting.priority + waiting.default + waiting.flex }
  }

  /** Lets promises go on. */
  settled(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve))
  }

  /** One after another, each answered `ttftMs` after it began. */
  async answerOften(times: number, ttftMs: number, stream = true): Promise<void> {
    for (let i = 0; i < times; i += 1) {
      this.ask({ stream })
      const begun = this.begun.at(-1)!
      this.clock.advance(ttftMs)
      begun.sink.head(head)
      begun.answer()
      await this.settled()
    }
  }

  async metric(series: string): Promise<number> {
    const text = await this.metrics.expose()
    const line = text.split('\n').find((candidate) => candidate.startsWith(`${series} `))
    return line ? Number(line.slice(series.length + 1)) : 0
  }

  count(outcome: string, tier = 'default'): Promise<number> {
    return this.metric(`autoglm_admission_requests_total{model="m",tier="${tier}",outcome="${outcome}"}`)
  }

  #begin(call: Call, sink: Sink, signal: CancelSignal): Promise<void> {
    const run = new Promise<void>((resolve, reject) => {
      if (signal.aborted) return reject(fail('client_closed'))
      const begun = { call, sink, answer: () => resolve(), fail: reject }
      signal.addEventListener('abort', () => reject(fail('client_closed')))
      this.begun.push(begun)
    })
    return settle(run, sink)
  }
}

/** Tells the sink how it ended, as the router does. */
function settle(run: Promise<void>, sink: Sink): Promise<void> {
  return run.then(
    () => sink.settled?.(null),
    (thrown: unknown) => {
      sink.settled?.(thrown)
      throw thrown
    },
  )
}
