import { collectDefaultMetrics, Registry } from 'prom-client'
import type { MetricsSnapshot } from './merge-metrics.ts'

/**
 * Counters, gauges and histograms whose cells are bound once and then cost an addition: prom-client hashes the
 * labels at every increment. prom-client keeps what it is good at, the registry, the exposition and Node's own
 * figures; each family here only hands it its values at a scrape.
 */

type Labels = Record<string, string>
type Sample = { value: number; labels: Labels & { le?: string }; metricName?: string }
type Family = {
  name: string
  help: string
  labelNames: readonly string[]
  /** What several processes of one machine make of it; see `merge-metrics.ts`. The usual is the sum. */
  together?: 'sum' | 'first' | 'min' | 'max' | 'average'
}

/** One labelled value. */
export type Cell = { value: number }

abstract class MetricFamily<C> {
  readonly name: string
  readonly help: string
  readonly aggregator: string
  abstract readonly type: string
  readonly #labelNames: readonly string[]
  readonly #cells = new Map<string, { labels: Labels; cell: C }>()

  constructor(registry: MetricsRegistry, family: Family) {
    this.name = family.name
    this.help = family.help
    this.aggregator = family.together ?? 'sum'
    this.#labelNames = family.labelNames
    registry.add(this)
  }

  /** The cell of these label values, in the order of the family's names. Keep it: finding it costs a string. */
  cell(...values: string[]): C {
    const key = values.join('\u0000')
    let entry = this.#cells.get(key)
    if (!entry) {
      const labels = Object.fromEntries(this.#labelNames.map((name, index) => [name, values[index] ?? '']))
      entry = { labels, cell: this.makeCell() }
      this.#cells.set(key, entry)
    }
    return entry.cell
  }

  protected abstract makeCell(): C
  protected abstract samples(labels: Labels, cell: C): Sample[]
  protected refresh(): void {}

  /** What prom-client calls at a scrape. */
  get() {
    this.refresh()
    const values = [...this.#cells.values()].flatMap(({ labels, cell }) => this.samples(labels, cell))
    return { name: this.name, help: this.help, type: this.type, aggregator: this.aggregator, values }
  }

  /** Forgets all cells. */
  reset(): void {
    this.#cells.clear()
  }
}

/** A family of single numbers; `read`, if given, sets its cells from the live state just before a scrape. */
abstract class NumberFamily extends MetricFamily<Cell> {
  readonly #read: ((family: NumberFamily) => void) | undefined

  constructor(registry: MetricsRegistry, family: Family, read?: (family: NumberFamily) => void) {
    super(registry, family)
    this.#read = read
  }
  protected override refresh(): void {
    if (!this.#read) return
    // What is no longer there must not be shown with its last value.
    this.reset()
    this.#read(this)
  }
  protected makeCell(): Cell {
    return { value: 0 }
  }
  protected samples(labels: Labels, cell: Cell): Sample[] {
    return [{ value: cell.value, labels }]
  }
}

export class Counter extends NumberFamily {
  readonly type = 'counter'
}

export class Gauge extends NumberFamily {
  readonly type = 'gauge'
}

/** Bucket counts of one labelled distribution. */
export class Distribution {
  readonly bounds: readonly number[]
  readonly counts: number[]
  sum = 0
  count = 0

  constructor(bounds: readonly number[]) {
    this.bounds = bounds
    this.counts = bounds.map(() => 0)
  }

  observe(value: number): void {
    this.sum += value
    this.count += 1
    for (let i = 0; i < this.bounds.length; i += 1) {
      if (value <= (this.bounds[i] as number)) {
        this.counts[i] = (this.counts[i] as number) + 1
        return
      }
    }
  }
}

export class Histogram extends MetricFamily<Distribution> {
  readonly type = 'histogram'
  readonly #bounds: readonly number[]

  constructor(registry: MetricsRegistry, family: Family & { bounds: readonly number[] }) {
    super(registry, family)
    this.#bounds = family.bounds
  }
  protected makeCell(): Distribution {
    return new Distribution(this.#bounds)
  }
  protected samples(labels: Labels, cell: Distribution): Sample[] {
    let below = 0
    const buckets = cell.bounds.map((bound, i) => {
      below += cell.counts[i] ?? 0
      return { value: below, labels: { ...labels, le: String(bound) }, metricName: `${this.name}_bucket` }
    })
    return [
      ...buckets,
      { value: cell.count, labels: { ...labels, le: '+Inf' }, metricName: `${this.name}_bucket` },
      { value: cell.sum, labels, metricName: `${this.name}_sum` },
      { value: cell.count, labels, metricName: `${this.name}_count` },
    ]
  }
}

export class MetricsRegistry {
  readonly #registry = new Registry()
  readonly contentType: string = this.#registry.contentType

  /** Adds what Node knows of the process: CPU, memory, event-loop delay, garbage collection. */
  collectProcess(): void {
    collectDefaultMetrics({ register: this.#registry })
  }

  add(family: { name: string }): void {
    // prom-client asks a metric for nothing but `name`, `get()` and `reset()`.
    this.#registry.registerMetric(family as never)
  }

  /** All values as plain data, for another process. */
  read(): Promise<MetricsSnapshot> {
    return this.#registry.getMetricsAsJSON()
  }

  /** The Prometheus text exposition. */
  expose(): Promise<string> {
    return this.#registry.metrics()
  }
}
