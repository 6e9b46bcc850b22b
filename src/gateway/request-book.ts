import type { Clock } from '../core/clock.ts'
import type { Logger } from '../telemetry/log.ts'
import { formatAccessLine } from './access-line.ts'
import type { RequestMetrics } from './request-metrics.ts'
import type { RequestRecord } from './request-record.ts'

/** Pino's numbers. */
const levels = { debug: 20, info: 30 } as const

/** What is written at a request's end: one line of the access log, and the metrics. */
export class RequestBook {
  readonly #clock: Clock
  readonly #log: Logger
  readonly #writeLine: (line: string) => void
  readonly metrics: RequestMetrics
  #secondMs = 0
  #secondText = ''

  constructor(parts: {
    clock: Clock
    log: Logger
    writeLine: (line: string) => void
    metrics: RequestMetrics
  }) {
    this.#clock = parts.clock
    this.#log = parts.log
    this.#writeLine = parts.writeLine
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
      cache: null,
      cacheAgeMs: null,
      prompt: undefined,
      done: false,
      onAbandoned: null,
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
    // Health checks and scrapes come every few seconds: they are not what the log is read for.
    const isWanted = record.endpoint.startsWith('/v1') || record.endpoint === 'unmatched'
    if (!this.#log.isLevelEnabled(isWanted ? 'info' : 'debug')) return
    const level = isWanted ? levels.info : levels.debug
    this.#writeLine(formatAccessLine(record, { level, time: this.#formatNow(), durationMs }))
  }

  /** The time in ISO 8601. The part that changes once a second is kept. */
  #formatNow(): string {
    const nowMs = Math.floor(this.#clock.wallMs())
    const ms = nowMs % 1000
    if (nowMs - ms !== this.#secondMs) {
      this.#secondMs = nowMs - ms
      this.#secondText = new Date(this.#secondMs).toISOString().slice(0, 20)
    }
    return `${this.#secondText}${ms < 10 ? '00' : ms < 100 ? '0' : ''}${ms}Z`
  }
}
