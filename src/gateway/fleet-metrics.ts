import type { Clock } from '../core/clock.ts'
import { breakerStates, type Breaker } from '../fleet/breaker.ts'
import { instanceStates } from '../fleet/instance.ts'
import { readLatency } from '../fleet/latency.ts'
import type { Registry } from '../fleet/registry.ts'
import type { Router } from '../router/router.ts'
import { Counter, Gauge, type MetricsRegistry } from '../telemetry/metrics.ts'

/**
 * What Prometheus is told of the fleet and the router, read off them at each scrape. Where several processes share the
 * fleet, all of them see the same of it: the first is asked.
 */
export function exposeFleet(
  metrics: MetricsRegistry,
  parts: { registry: Registry; router: Router; clock: Clock },
): void {
  const { registry, router, clock } = parts
  const perInstance = (name: string, help: string, read: (of: (typeof registry.all)[number]) => number) =>
    new Gauge(metrics, { name, help, labelNames: ['instance'], together: 'first' }, (gauge) => {
      for (const instance of registry.all) gauge.cell(instance.id).value = read(instance)
    })
  perInstance('autoglm_instance_in_flight', 'Requests in flight on an instance.', ({ inFlight }) => inFlight)
  perInstance(
    'autoglm_instance_in_flight_limit',
    'Most requests in flight on an instance.',
    ({ spec }) => spec.inFlightMax,
  )
  perInstance('autoglm_instance_available', '1 when an instance may get traffic now.', (instance) =>
    instance.isAvailable(clock.now()) ? 1 : 0,
  )
  perInstance(
    'autoglm_instance_ejected',
    '1 while an instance is ejected for its failures.',
    ({ ejectedUntilMs }) => (clock.now() < ejectedUntilMs ? 1 : 0),
  )
  perInstance(
    'autoglm_instance_waiting_bytes',
    'Bytes of the request bodies that wait for the first byte of their answer.',
    ({ waitingBytes }) => waitingBytes,
  )
  new Gauge(
    metrics,
    {
      name: 'autoglm_instance_latency_seconds',
      help: 'Moving average of the time to the first byte.',
      labelNames: ['instance'],
      together: 'max',
    },
    (gauge) => {
      for (const { id, latency } of registry.all)
        gauge.cell(id).value = readLatency(latency, clock.now()) / 1000
    },
  )
  new Gauge(
    metrics,
    {
      name: 'autoglm_instance_state',
      help: '1 for the state an instance is in.',
      labelNames: ['instance', 'state'],
      together: 'first',
    },
    (gauge) => {
      for (const instance of registry.all) {
        for (const state of instanceStates)
          gauge.cell(instance.id, state).value = instance.state === state ? 1 : 0
      }
    },
  )
  exposeBreakers(metrics, 'instance', function* () {
    for (const { id, breaker } of registry.all) yield [id, breaker]
  })
  exposeBreakers(metrics, 'model', () => router.health.models)
  const total = (name: string, help: string, read: () => number) =>
    new Counter(metrics, { name, help, labelNames: [] }, (counter) => {
      counter.cell().value = read()
    })
  total(
    'autoglm_retries_total',
    'Attempts on another instance after a failed one.',
    () => router.counts.retries,
  )
  total(
    'autoglm_retries_refused_total',
    'Retries that the budget did not allow.',
    () => router.counts.retriesRefused,
  )
  total('autoglm_ejections_total', 'Ejections of instances.', () => router.health.ejections)
  total('autoglm_hedges_total', 'Second attempts beside a slow one.', () => router.counts.hedges)
  total(
    'autoglm_hedges_refused_total',
    'Hedges that the budget of retries did not allow.',
    () => router.counts.hedgesRefused,
  )
  total('autoglm_hedge_wins_total', 'Hedges that answered first.', () => router.counts.hedgeWins)
}

/** The states of breakers and how often they came to be in them, under the name of what they guard. */
function exposeBreakers(
  metrics: MetricsRegistry,
  kind: 'instance' | 'model',
  list: () => Iterable<readonly [string, Breaker]>,
): void {
  new Gauge(
    metrics,
    {
      name: `autoglm_${kind}_breaker_state`,
      help: '1 for the state a circuit breaker is in; an open one becomes half_open with the next call.',
      labelNames: [kind, 'state'],
      together: 'first',
    },
    (gauge) => {
      for (const [name, breaker] of list()) {
        for (const state of breakerStates) gauge.cell(name, state).value = breaker.state === state ? 1 : 0
      }
    },
  )
  new Counter(
    metrics,
    {
      name: `autoglm_${kind}_breaker_transitions_total`,
      help: 'Changes of a circuit breaker into a state.',
      labelNames: [kind, 'to'],
    },
    (counter) => {
      for (const [name, breaker] of list()) {
        for (const state of breakerStates) counter.cell(name, state).value = breaker.entries[state]
      }
    },
  )
}
