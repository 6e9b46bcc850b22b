import { AggregatorRegistry, type MetricObjectWithValues, type MetricValue } from 'prom-client'

/** The values of all families of one process, as plain data. */
export type MetricsSnapshot = readonly MetricObjectWithValues<MetricValue<string>>[]

/** Several processes together, each family by its own rule; the first process comes first. */
export function mergeMetrics(snapshots: readonly MetricsSnapshot[]): {
  metrics(): Promise<string>
  read(): Promise<MetricsSnapshot>
} {
  const merged = AggregatorRegistry.aggregate([...snapshots] as object[])
  return {
    metrics: () => merged.metrics(),
    read: () => merged.getMetricsAsJSON(),
  }
}

/**
 * What must go on counting when a process is gone: its counters and histograms. A sum that fell would be taken for a
 * restart.
 */
export function keepTotals(snapshot: MetricsSnapshot): MetricsSnapshot {
  return snapshot.filter((family) => ['counter', 'histogram'].includes(String(family.type)))
}
