import type { ResultCache } from '../storage/result-cache.ts'
import { Counter, Gauge, type MetricsRegistry } from '../telemetry/metrics.ts'

/** What Prometheus is told of the cache itself, read off it at each scrape. */
export function exposeCache(metrics: MetricsRegistry, cache: ResultCache): void {
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge(metrics, { name, help, labelNames: [] }, (family) => {
      family.cell().value = read()
    })
  gauge('autoglm_cache_memory_bytes', 'Bytes of the answers kept in memory.', () => cache.memoryBytes)
  gauge('autoglm_cache_memory_entries', 'Answers kept in memory.', () => cache.memoryEntries)
  gauge(
    'autoglm_cache_writes_waiting',
    'Answers that wait to be written to the storage.',
    () => cache.writer.waitingEntries,
  )
  const name = 'autoglm_cache_storage_total'
  const help = 'Answers asked of the storage and written to it, by what came of it.'
  new Counter(metrics, { name, help, labelNames: ['operation', 'outcome'] }, (family) => {
    const { storageReads, storageReadFailures } = cache.counts
    const { written, dropped, failures } = cache.writer.counts
    family.cell('read', 'answered').value = storageReads - storageReadFailures
    family.cell('read', 'failed').value = storageReadFailures
    family.cell('write', 'done').value = written
    family.cell('write', 'failed').value = failures
    family.cell('write', 'dropped').value = dropped
  })
}
