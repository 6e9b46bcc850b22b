import { Counter, Gauge, type Cell, type MetricsRegistry } from '../../telemetry/metrics.ts'

/** What Prometheus is told of usage. No names of tenants or keys: there may be any number of them. */
export class UsageMetrics {
  readonly #costs: Counter
  readonly #models = new Map<string, Cell>()
  readonly #failures: Cell
  readonly #dropped: Cell
  readonly #registry: MetricsRegistry

  constructor(registry: MetricsRegistry) {
    this.#registry = registry
    this.#costs = new Counter(registry, {
      name: 'autoglm_cost_total',
      help: 'Cost of answers and tasks, in the currency of `prices`.',
      labelNames: ['model'],
    })
    this.#failures = new Counter(registry, {
      name: 'autoglm_usage_write_failures_total',
      help: 'Writes of usage that the storage did not take; what they held is kept and written again.',
      labelNames: [],
    }).cell()
    this.#dropped = new Counter(registry, {
      name: 'autoglm_usage_dropped_total',
      help: 'Requests and tasks that are not in the usage: too many sums waited for the storage.',
      labelNames: [],
    }).cell()
  }

  /** `read` says how many sums are not stored. */
  watchRows(read: () => number): void {
    const family = {
      name: 'autoglm_usage_rows_unsaved',
      help: 'Sums of usage that are not stored yet.',
      labelNames: [],
    }
    new Gauge(this.#registry, family, (gauge) => {
      gauge.cell().value = read()
    })
  }

  charge(model: string, cost: number): void {
    let cell = this.#models.get(model)
    if (cell === undefined) this.#models.set(model, (cell = this.#costs.cell(model)))
    cell.value += cost
  }

  failed(): void {
    this.#failures.value += 1
  }

  dropped(): void {
    this.#dropped.value += 1
  }
}
