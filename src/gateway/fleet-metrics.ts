import type { Clock } from '../core/clock.ts'
import { instanceStates } from '../fleet/instance.ts'
import { readLatency } from '../fleet/latency.ts'
import type { Registry } from '../fleet/registry.ts'
import type { Router } from '../router/router.ts'
import { Counter, Gauge, type MetricsRegistry } from '../telemetry/metrics.ts'

/** What Prometheus is told of the fleet and the router, read off them at each scrape. */
export function exposeFleet(
  metrics: MetricsRegistry,
  parts: { registry: Registry; router: Router; clock: Clock },
): void {
  const { registry, router, clock } = parts
  const perInstance = (name: string, help: string, read: (of: (typeof registry.all)[number]) => number) =>
    new Gauge(metrics, { name, help, labelNames: ['instance'] }, (gauge) => {
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
  perInstance(
    'autoglm_instance_latency_seconds',
    'Moving average of the time to the first byte.',
    ({ latency }) => readLatency(latency, clock.now()) / 1000,
  )
  new Gauge(
    metrics,
    {
      name: 'autoglm_instance_state',
      help: '1 for the state an instance is in.',
      labelNames: ['instance', 'state'],
    },
    (gauge) => {
      for (const instance of registry.all) {
        for (const state of instanceStates)
          gauge.cell(instance.id, state).value = instance.state === state ? 1 : 0
      }
    },
  )
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
  total('autoglm_ejections_total', 'Ejections of instances.', () => router.counts.ejections)
}
