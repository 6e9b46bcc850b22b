import type { Clock } from '../core/clock.ts'
import type { ErrorCode } from '../core/errors.ts'
import type { Logger } from '../telemetry/log.ts'
import type { RequestMetrics } from './request-metrics.ts'

/** Everything that is remembered of one request: filled in on its way, written once at its end. */
export type RequestRecord = {
  readonly id: string
  readonly method: string
  /** The route's pattern, such as `/v1/models/:id`; `unmatched` when there is none. */
  readonly endpoint: string
  readonly startedAtMs: number
  status: number
  model: string | null
  instance: string | null
  attempts: number
  stream: boolean
  promptTokens: number | null
  cachedTokens: number | null
  completionTokens: number | null
  /** From the request's arrival to the first byte of its answer. */
  ttftMs: number | null
  error: ErrorCode | null
  /** The start of the prompt; only when the operator asked for prompts in the log. */
  prompt: string | undefined
  done: boolean
}

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
