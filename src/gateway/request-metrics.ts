import { Counter, Gauge, Histogram, type Cell, type MetricsRegistry } from '../telemetry/metrics.ts'
import type { RequestRecord } from './request-record.ts'

const durationBounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300]

/** What Prometheus is told of the requests. Cells are bound once for each set of labels. */
export class RequestMetrics {
  inFlight = 0
  readonly #requests: Counter
  readonly #durations: Histogram
  readonly #firstTokens: Histogram
  readonly #tokens: Counter
  /** Endpoint, then status and method in one number -> the cell: no string is built for a request. */
  readonly #requestCells = new Map<string, Map<string, Map<number, Cell>>>()

  constructor(registry: MetricsRegistry) {
    this.#requests = new Counter(registry, {
      name: 'http_requests_total',
      help: 'HTTP requests by method, endpoint and status.',
      labelNames: ['method', 'endpoint', 'status'],
    })
    this.#durations = new Histogram(registry, {
      name: 'http_request_duration_seconds',
      help: 'From the arrival of a request to the end of its answer.',
      labelNames: ['endpoint'],
      bounds: durationBounds,
    })
    this.#firstTokens = new Histogram(registry, {
      name: 'autoglm_time_to_first_token_seconds',
      help: 'From the arrival of a request to the first byte of its stream.',
      labelNames: ['model', 'instance'],
      bounds: durationBounds,
    })
    this.#tokens = new Counter(registry, {
      name: 'autoglm_tokens_total',
      help: 'Tokens as the instances count them; `cached` are part of `prompt`.',
      labelNames: ['model', 'kind'],
    })
    new Gauge(
      registry,
      {
        name: 'autoglm_requests_in_flight',
        help: 'Requests that have no complete answer yet.',
        labelNames: [],
      },
      (gauge) => {
        gauge.cell().value = this.inFlight
      },
    )
  }

  observe(record: RequestRecord, durationMs: number): void {
    this.#requestCell(record).value += 1
    this.#durations.cell(record.endpoint).observe(durationMs / 1000)
    const { model, instance } = record
    if (model === null || instance === null) return
    if (record.stream && record.ttftMs !== null) {
      this.#firstTokens.cell(model, instance).observe(record.ttftMs / 1000)
    }
    if (record.promptTokens !== null) this.#tokens.cell(model, 'prompt').value += record.promptTokens
    if (record.cachedTokens !== null) this.#tokens.cell(model, 'cached').value += record.cachedTokens
    if (record.completionTokens !== null)
      this.#tokens.cell(model, 'completion').value += record.completionTokens
  }

  #requestCell({ endpoint, method, status }: RequestRecord): Cell {
    let methods = this.#requestCells.get(endpoint)
    if (!methods) this.#requestCells.set(endpoint, (methods = new Map()))
    let statuses = methods.get(method)
    if (!statuses) methods.set(method, (statuses = new Map()))
    let cell = statuses.get(status)
    if (!cell) statuses.set(status, (cell = this.#requests.cell(method, endpoint, String(status))))
    return cell
  }
}
