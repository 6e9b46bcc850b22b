import type { Clock } from '../core/clock.ts'
import type { Logger } from '../telemetry/log.ts'
import { formatAccessLine } from './access-line.ts'
import { nobody } from './auth/caller.ts'
import type { RequestMetrics } from './request-metrics.ts'
import type { RequestRecord } from './request-record.ts'
import { readUsedTokens } from './used-tokens.ts'

/** Pino's numbers. */
const levels = { debug: 20, info: 30 } as const

/** What is written at a request's end: one line of the access log, and the metrics. */
export class RequestBook {
  readonly #clock: Clock
  readonly #log: Logger
  readonly #writeLine: (line: string) => void
  readonly metrics: RequestMetrics
  readonly #onEnd: (record: RequestRecord, durationMs: number) => void
  #secondMs = 0
  #secondText = ''

  constructor(parts: {
    clock: Clock
    log: Logger
    writeLine: (line: string) => void
    metrics: RequestMetrics
    /** Called once for each request, with all that is known of it. */
    onEnd?: (record: RequestRecord, durationMs: number) => void
  }) {
    this.#clock = parts.clock
    this.#log = parts.log
    this.#writeLine = parts.writeLine
    this.metrics = parts.metrics
    this.#onEnd = parts.onEnd ?? (() => {})
  }

  open(id: string, method: string, endpoint: string): RequestRecord {
    this.metrics.inFlight += 1
    return {
      id,
      method,
      endpoint,
      startedAtMs: this.#clock.now(),
      caller: nobody,
      pass: null,
      status: 0,
      model: null,
      instance: null,
      attempts: 0,
      stream: false,
      promptTokens: null,
      cachedTokens: null,
      completionTokens: null,
      promptEstimate: 0,
      events: 0,
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
    record.pass?.settle(countTokens(record))
    this.#onEnd(record, durationMs)
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

/** What the limits are told at the end; null lets the estimate stand. */
function countTokens(record: RequestRecord): number | null {
  const used = readUsedTokens(record)
  if (used !== null) return used.prompt + used.completion
  // Who hangs up before the first byte may have had an instance work all the same.
  return record.error === 'client_closed' && record.cache !== 'hit' ? null : 0
}
