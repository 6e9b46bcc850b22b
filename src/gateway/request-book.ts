import type { Clock } from '../core/clock.ts'
import type { Logger } from '../telemetry/log.ts'
import type { RequestMetrics } from './request-metrics.ts'
import type { RequestRecord } from './request-record.ts'

/** What is written at a request's end: one line of the access log, and the metrics. */
export class RequestBook {
  readonly #clock: Clock
  readonly #log: Logger
  readonly metrics: RequestMetrics

  constructor(parts: { clock: Clock; log: Logger; metrics: RequestMetrics }) {
    this.#clock = parts.clock
    this.#log = parts.log
    this.metrics = parts.metrics
  }

  open(id: string, method: string, endpoint: string): RequestRecord {
    this.metrics.inFlight += 1
    return {
      id,
      method,
      endpoint,
      startedAtMs: this.#clock.now(),
      status: 0,
      model: null,
      instance: null,
      attempts: 0,
      stream: false,
      promptTokens: null,
      cachedTokens: null,
      completionTokens: null,
      ttftMs: null,
      error: null,
      prompt: undefined,
      done: false,
    }
  }

  /** Milliseconds since the request came. */
  ageMs(record: RequestRecord): number {
    return this.#clock.now() - record.startedAtMs
  }

  /** Ends a request, once; later calls do nothing. */
  close(record: RequestRecord): void {
    if (record.done) return
    record.done = true
    const durationMs = this.ageMs(record)
    this.metrics.inFlight -= 1
    this.metrics.observe(record, durationMs)
    const line = {
      requestId: record.id,
      method: record.method,
      endpoint: record.endpoint,
      status: record.status,
      durationMs: round(durationMs),
      model: record.model,
      instance: record.instance,
      attempts: record.attempts,
      stream: record.stream,
      ttftMs: record.ttftMs === null ? null : round(record.ttftMs),
      promptTokens: record.promptTokens,
      completionTokens: record.completionTokens,
      error: record.error,
      prompt: record.prompt,
    }
    // Health checks and scrapes come every few seconds: they are not what the log is read for.
    if (record.endpoint.startsWith('/v1') || record.endpoint === 'unmatched') this.#log.info(line, 'request')
    else this.#log.debug(line, 'request')
  }
}

const round = (ms: number) => Math.round(ms * 100) / 100
