import {
  Counter,
  Gauge,
  Histogram,
  type Cell,
  type Distribution,
  type MetricsRegistry,
} from '../telemetry/metrics.ts'
import type { CacheResult, RequestRecord } from './request-record.ts'

const durationBounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300]

/** What Prometheus is told of the requests. Cells are bound once for each set of labels. */
export class RequestMetrics {
  inFlight = 0
  readonly #requests: Counter
  readonly #durations: Histogram
  readonly #firstTokens: Histogram
  readonly #tokens: Counter
  readonly #cacheResults: Readonly<Record<CacheResult, Cell>>
  /** The cells of what has been seen: no string of labels is built for a request. */
  readonly #endpoints = new Map<string, EndpointCells>()
  readonly #models = new Map<string, ModelCells>()

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
    const cacheRequests = new Counter(registry, {
      name: 'autoglm_cache_requests_total',
      help: 'Model calls by what the cache did: hit, miss (a model answered, the answer may be kept) or bypass.',
      labelNames: ['result'],
    })
    this.#cacheResults = {
      hit: cacheRequests.cell('hit'),
      miss: cacheRequests.cell('miss'),
      bypass: cacheRequests.cell('bypass'),
    }
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
    const { model, instance } = record
    const endpoint = keep(this.#endpoints, record.endpoint, () => this.#bindEndpoint(record.endpoint))
    endpoint.durations.observe(durationMs / 1000)
    const status = record.status
    keep(
      keep(endpoint.statuses, record.method, () => new Map<number, Cell>()),
      status,
      () => this.#requests.cell(record.method, record.endpoint, String(status)),
    ).value += 1
    if (record.cache !== null) this.#cacheResults[record.cache].value += 1
    // A cached answer tells nothing of an instance: no tokens were made, nobody was waited for.
    if (model === null || instance === null || record.cache === 'hit') return
    const tokens = keep(this.#models, model, () => this.#bindModel(model))
    if (record.promptTokens !== null) tokens.prompt.value += record.promptTokens
    if (record.cachedTokens !== null) tokens.cached.value += record.cachedTokens
    if (record.completionTokens !== null) tokens.completion.value += record.completionTokens
    if (!record.stream || record.ttftMs === null) return
    keep(tokens.firstTokens, instance, () => this.#firstTokens.cell(model, instance)).observe(
      record.ttftMs / 1000,
    )
  }

  #bindEndpoint(endpoint: string): EndpointCells {
    return { durations: this.#durations.cell(endpoint), statuses: new Map() }
  }

  #bindModel(model: string): ModelCells {
    const [prompt, cached, completion] = ['prompt', 'cached', 'completion'].map((kind) =>
      this.#tokens.cell(model, kind),
    ) as [Cell, Cell, Cell]
    return { prompt, cached, completion, firstTokens: new Map() }
  }
}

type EndpointCells = { durations: Distribution; statuses: Map<string, Map<number, Cell>> }
type ModelCells = { prompt: Cell; cached: Cell; completion: Cell; firstTokens: Map<string, Distribution> }

/** The value of `key`, made when it is asked for the first time. */
function keep<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key)
  if (value === undefined) map.set(key, (value = make()))
  return value
}
