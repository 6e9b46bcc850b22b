import { Counter, Gauge, type MetricsRegistry } from '../telemetry/metrics.ts'
import type { Limiter, RefusedBy } from './limits/limiter.ts'

/** Counts what limits refuse; to be given to the limiter. */
export function countRefusals(metrics: MetricsRegistry): (by: RefusedBy) => void {
  const refused = new Counter(metrics, {
    name: 'autoglm_limits_refused_total',
    help: 'Requests refused by a limit: whose it is, and of what.',
    labelNames: ['scope', 'unit'],
  })
  return ({ scope, unit }) => {
    refused.cell(scope, unit).value += 1
  }
}

/** Shows how limits stand. */
export function exposeLimits(metrics: MetricsRegistry, limiter: Limiter): void {
  const shares = {
    name: 'autoglm_limits_share',
    help: 'By what every rate is multiplied now, by class of service.',
    labelNames: ['tier'],
    together: 'min',
  } as const
  new Gauge(metrics, shares, (gauge) => {
    for (const [tier, share] of Object.entries(limiter.shares)) gauge.cell(tier).value = share
  })
  const down = {
    name: 'autoglm_limits_alone',
    help: '1 while limits that are shared are counted by this server alone, as what they are kept in is away.',
    labelNames: [],
    together: 'max',
  } as const
  new Gauge(metrics, down, (gauge) => {
    gauge.cell().value = limiter.problem === null ? 0 : 1
  })
}
