import { fail } from '../../src/core/errors.ts'
import { observeLatency } from '../../src/fleet/latency.ts'
import { Admission } from '../../src/gateway/admission/admission.ts'
import { AdmittedRouter } from '../../src/gateway/admission/admitted-router.ts'
import type { AdmissionSettings } from '../../src/gateway/admission/model-gate.ts'
import type { ModelRouter } from '../../src/queue/live-router.ts'
import type { Ask, Call, Sink } from '../../src/router/call.ts'
import { createPeakEwma } from '../../src/router/policies/peak-ewma.ts'
import { MetricsRegistry } from '../../src/telemetry/metrics.ts'
import { ManualClock } from '../../test/helpers/clock.ts'
import { engineSpec, ModelInstance, type EngineSpec, type Outcome } from './model-instance.ts'
import type { TracedRequest } from './trace.ts'

export type OverloadRequest = {
  atMs: number
  inputTokens: number
  outputTokens: number
  streamed: boolean
  tenant: string
  weight: number
  tier: Ask['tier']
  /** How long its client waits for the first byte before it hangs up; Infinity for ever. It says nothing of it. */
  patienceMs: number
  /** The same, told to the gateway; null for nothing. */
  deadlineMs: number | null
}

/** What became of a request. */
export type Fate = {
  request: OverloadRequest
  /** `answered`, or the code of the refusal. */
  outcome: string
  /** From the arrival at the gateway to the first byte; NaN without one. */
  ttftMs: number
  endedAtMs: number
}

export type OverloadOptions = {
  /** By `atMs`. */
  requests: readonly OverloadRequest[]
  instances: number
  admission: AdmissionSettings
  random: () => number
  spec?: EngineSpec
  /** What the fleet tells of itself; left out, the truth. */
  slotsTold?: number
  /** Looks at the door after each event. */
  watch?: (admission: Admission, nowMs: number) => void
}

const seen = { status: 200, contentType: 'text/event-stream', instance: { id: 'i' }, model: 'm', contentLength: null, attempts: 1, retryAfter: null } // prettier-ignore

/**
 * Requests on simulated instances, through production's own door: `AdmittedRouter` in front, `peak_ewma` behind it. A
 * request ends when its last token is there; an instance works on what was begun even when its client is gone.
 */
export async function simulateOverload(options: OverloadOptions): Promise<Fate[]> {
  const clock = new ManualClock()
  const spec = options.spec ?? engineSpec
  const sinks = new Map<TracedRequest, { sink: Sink; end: () => void }>()
  const onFirstToken = ({ request }: Outcome) => {
    if (request.streamed) sinks.get(request)?.sink.head(seen)
  }
  const onEnd = (request: TracedRequest) => {
    const under = sinks.get(request)
    sinks.delete(request)
    if (!request.streamed) under?.sink.head(seen)
    under?.end()
  }
  const instances = Array.from(
    { length: options.instances },
    (_, i) =>
      new ModelInstance({
        ...{ id: `instance-${i}`, weight: 1, speed: 1, spec, observe: observeLatency, onFirstToken, onEnd },
      }),
  )
  const policy = createPeakEwma()
  const where = { sessionKey: null, prefixBlocks: () => [] }
  const router: ModelRouter = {
    aliases: {},
    resolve: (name) => name,
    run: (call, sink, signal) =>
      new Promise((resolve, reject) => {
        const end = () => {
          sink.settled?.(null)
          resolve()
        }
        if (signal.aborted) {
          const gone = fail('client_closed')
          sink.settled?.(gone)
          return reject(gone)
        }
        const nowMs = clock.now()
        const { inputTokens, outputTokens, streamed } = (call as SimulatedCall).request
        const request = { atMs: nowMs, inputTokens, outputTokens, streamed, blocks: [], sessionKey: '' }
        sinks.set(request, { sink, end })
        policy.pick(instances, where, { nowMs, random: options.random }).accept(request, nowMs)
      }),
  }
  const told = options.slotsTold ?? options.instances * spec.sequencesMax
  const admission = new Admission({
    clock,
    metrics: new MetricsRegistry(),
    settings: () => options.admission,
    capacityOf: () => ({ slots: told, start: told, inFlightMax: 0 }),
    isServed: () => true,
  })
  const door = new AdmittedRouter({ router, admission })
  const fates: Fate[] = []
  const patience: { atMs: number; abort: () => void }[] = []

  const arrive = (request: OverloadRequest) => {
    const client = new AbortController()
    let ttftMs = Number.NaN
    const sink: Sink = {
      head: () => (ttftMs = clock.now() - request.atMs),
      data: () => true,
      end: () => {},
    }
    const settle = (outcome: string) => {
      const isLate = outcome === 'answered' && ttftMs > request.patienceMs
      fates.push({ request, outcome: isLate ? 'too_late' : outcome, ttftMs, endedAtMs: clock.now() })
    }
    if (request.patienceMs < Infinity) {
      patience.push({ atMs: request.atMs + request.patienceMs, abort: () => client.abort() })
    }
    door.run(makeCall(request), sink, client.signal).then(
      () => settle('answered'),
      (error: { code: string }) => settle(error.code),
    )
  }

  let next = 0
  for (;;) {
    const arrivalMs = options.requests[next]?.atMs ?? Infinity
    const eventMs = Math.min(...instances.map((instance) => instance.nextEventMs()))
    const waiting = [...admission.look()].some(({ waiting: by }) => by.priority + by.default + by.flex > 0)
    // While somebody waits, the clock's own timer has something to do, too.
    const nowMs = Math.min(arrivalMs, eventMs, waiting ? clock.now() + 50 : Infinity)
    if (nowMs === Infinity) break
    clock.advance(Math.max(0, nowMs - clock.now()))
    for (const instance of instances) instance.advance(nowMs)
    while (patience[0] && patience[0].atMs <= nowMs) patience.shift()?.abort()
    while (next < options.requests.length && options.requests[next]!.atMs <= nowMs) {
      arrive(options.requests[next]!)
      next += 1
    }
    await settled()
    options.watch?.(admission, nowMs)
  }
  return fates
}

/** Promises that are resolved go on first. */
const settled = () => new Promise<void>((resolve) => setImmediate(resolve))

type SimulatedCall = Call & { request: OverloadRequest }

function makeCall(request: OverloadRequest): SimulatedCall {
  const { tenant, weight, tier, inputTokens, outputTokens, deadlineMs, atMs } = request
  return {
    ...{ id: 'r', path: '/chat/completions', model: 'm', stream: request.streamed, headers: [], request },
    ...{ sessionKey: null, prefixBlocks: () => [], bodyFor: () => Buffer.alloc(0) },
    ask: {
      tenant,
      weight,
      tier,
      tokens: inputTokens + outputTokens,
      deadlineMs: deadlineMs && atMs + deadlineMs,
    },
  }
}
