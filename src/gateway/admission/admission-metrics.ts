import type { Ask } from '../../router/call.ts'
import {
  Counter,
  Gauge,
  Histogram,
  type Cell,
  type Distribution,
  type MetricsRegistry,
} from '../../telemetry/metrics.ts'
import { tiers } from './waiting-line.ts'

/** What can become of a request that wants in. */
export const outcomes = [
  'admitted',
  /** The line was full, and nobody in it less urgent. */
  'rejected_full',
  /** It waited, and left its place in the line to somebody more urgent. */
  'rejected_shed',
  /** Its client's deadline was out of reach. */
  'rejected_deadline',
  'expired',
  'client_gone',
  'shutting_down',
] as const
export type Outcome = (typeof outcomes)[number]

/** The cells of one model, bound once. */
export type ModelCells = {
  outcomes: Readonly<Record<Ask['tier'], Readonly<Record<Outcome, Cell>>>>
  waits: Readonly<Record<Ask['tier'], Distribution>>
}

export type ModelSight = {
  model: string
  limit: number
  inFlight: number
  waiting: Readonly<Record<Ask['tier'], number>>
}

const waitBounds = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]

/** What there is to be seen of admission. Models are those that are served, so the labels are few. */
export class AdmissionMetrics {
  readonly #requests: Counter
  readonly #waits: Histogram

  constructor(registry: MetricsRegistry, look: () => Iterable<ModelSight>) {
    const family = (name: string, help: string, ...labelNames: string[]) => ({ name, help, labelNames })
    this.#requests = new Counter(
      registry,
      family('autoglm_admission_requests_total', 'Live requests by what became of their wish to be let in.', 'model', 'tier', 'outcome'),
    ) // prettier-ignore
    this.#waits = new Histogram(registry, {
      ...family('autoglm_admission_wait_seconds', 'Time in the waiting line of those who had to wait and were let in.', 'model', 'tier'),
      bounds: waitBounds,
    }) // prettier-ignore
    new Gauge(registry, family('autoglm_admission_limit', 'Live requests that may be under way at once.', 'model'), (gauge) => {
      for (const { model, limit } of look()) gauge.cell(model).value = limit
    }) // prettier-ignore
    new Gauge(registry, family('autoglm_admission_in_flight', 'Live requests that have been let in and are under way.', 'model'), (gauge) => {
      for (const { model, inFlight } of look()) gauge.cell(model).value = inFlight
    }) // prettier-ignore
    new Gauge(registry, family('autoglm_admission_waiting', 'Live requests that wait to be let in.', 'model', 'tier'), (gauge) => {
      for (const { model, waiting } of look()) {
        for (const tier of tiers) gauge.cell(model, tier).value = waiting[tier]
      }
    }) // prettier-ignore
  }

  bind(model: string): ModelCells {
    return {
      outcomes: byTier((tier) => fromKeys(outcomes, (outcome) => this.#requests.cell(model, tier, outcome))),
      waits: byTier((tier) => this.#waits.cell(model, tier)),
    }
  }
}

const fromKeys = <K extends string, V>(keys: readonly K[], make: (key: K) => V): Record<K, V> =>
  Object.fromEntries(keys.map((key) => [key, make(key)])) as Record<K, V>

const byTier = <V>(make: (tier: Ask['tier']) => V): Record<Ask['tier'], V> => fromKeys(tiers, make)
