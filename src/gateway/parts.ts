import type { Clock } from '../core/clock.ts'
import type { Registry } from '../fleet/registry.ts'
import type { Queue } from '../queue/queue.ts'
import type { WebhookSettings } from '../queue/webhooks/settings.ts'
import type { Router } from '../router/router.ts'
import type { Store } from '../storage/store.ts'
import type { ResultCache } from '../storage/result-cache.ts'
import type { Logger } from '../telemetry/log.ts'
import type { MetricsRegistry } from '../telemetry/metrics.ts'

/** Settings of the gateway that a reload may change; read at each request. */
export type GatewaySettings = {
  jsonDepthMax: number
  /** In lower case, as Node gives header names. */
  sessionHeader: string
  /** How long a client may take none of the bytes waiting for it, in ms. */
  stallMs: number
  logsPrompts: boolean
}

/** What the routes are made of. */
export type GatewayParts = {
  registry: Registry
  router: Router
  metrics: MetricsRegistry
  /** Answers that are given again; without it every call goes to a model. */
  cache?: ResultCache | null
  clock: Clock
  log: Logger
  settings: () => GatewaySettings
  /** What is wrong with the storage, in a sentence; null when it takes writes. */
  storageProblem: () => string | null
  /** The parts of this process that /healthz names. */
  components: readonly string[]
  version: string
  /** Where tasks are submitted; without it, there are no routes for them. */
  queue?: Queue
  store?: Store
  webhooks?: () => WebhookSettings
}
