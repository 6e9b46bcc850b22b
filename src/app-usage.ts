import type { Config, TenantSettings } from './config/schema.ts'
import type { Clock } from './core/clock.ts'
import type { Service } from './core/service.ts'
import type { RequestRecord } from './gateway/request-record.ts'
import { Budgets } from './gateway/usage/budgets.ts'
import { PriceTable } from './gateway/usage/prices.ts'
import { UsageBook } from './gateway/usage/usage-book.ts'
import { UsageMetrics } from './gateway/usage/usage-metrics.ts'
import type { EndedAttempt } from './queue/dispatcher.ts'
import type { Store } from './storage/store.ts'
import type { Logger } from './telemetry/log.ts'
import type { MetricsRegistry } from './telemetry/metrics.ts'

/** What is used, and by whom it may still be. */
export type UsageSide = {
  /** To be told of every request that has ended. */
  noteRequest: (record: RequestRecord, durationMs: number) => void
  /** To be told of every attempt at a task that was settled. */
  noteTask: (ended: EndedAttempt) => void
  /** Throws budget_exceeded. A promise only where it has to be read what the tenant has spent. */
  checkBudget: (tenant: string, settings: TenantSettings) => void | Promise<void>
  /** In the order in which they start: behind the storage, before whatever uses anything. */
  services: readonly Service[]
}

type Parts = {
  config: () => Config
  store: Pick<Store, 'usage'>
  metrics: MetricsRegistry
  clock: Clock
  log: Logger
}

/** Builds it. */
export function buildUsageSide({ config, store, metrics, clock, log }: Parts): UsageSide {
  const prices = new PriceTable(() => config().prices)
  const shared = { store: store.usage, clock, log }
  const book = new UsageBook({ ...shared, prices, metrics: new UsageMetrics(metrics) })
  const budgets = new Budgets({ ...shared, book })
  return {
    noteRequest: (record, durationMs) => book.note(record, durationMs),
    noteTask: (ended) => book.noteTask(ended),
    checkBudget: (tenant, settings) => budgets.check(tenant, settings),
    services: [book, budgets],
  }
}
