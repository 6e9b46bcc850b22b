import type { TenantSettings } from '../config/schema.ts'
import type { Clock } from '../core/clock.ts'
import type { Registry } from '../fleet/registry.ts'
import type { Batches } from '../queue/batches/batches.ts'
import type { FileStore } from '../queue/batches/file-store.ts'
import type { ModelRouter } from '../queue/live-router.ts'
import type { Queue } from '../queue/queue.ts'
import type { ResponseEventLog } from '../queue/responses/event-log.ts'
import type { StoredResponses } from '../queue/responses/stored-responses.ts'
import type { WebhookSettings } from '../queue/webhooks/settings.ts'
import type { Store } from '../storage/store.ts'
import type { ResultCache } from '../storage/result-cache.ts'
import type { Logger } from '../telemetry/log.ts'
import type { MetricsRegistry } from '../telemetry/metrics.ts'
import type { AccessParts } from './auth/access-parts.ts'
import type { LiveDoor } from './live-door.ts'

/** Settings of the gateway that a reload may change; read at each request. */
export type GatewaySettings = {
  jsonDepthMax: number
  /** In lower case, as Node gives header names. */
  sessionHeader: string
  /** How long a client may take none of the bytes waiting for it, in ms. */
  stallMs: number
  logsPrompts: boolean
}

/** What a server is made of, whatever it offers. */
export type GatewayParts = {
  registry: Registry
  /** What /metrics shows. */
  metrics: Pick<MetricsRegistry, 'expose' | 'contentType'>
  clock: Clock
  log: Logger
  /** What is wrong with the storage, in a sentence; null when it takes writes. */
  storageProblem: () => string | null
  /** The parts of this process that /healthz names. */
  components: readonly string[]
  version: string
}

/** What the routes of the API are made of. */
export type ApiParts = {
  registry: Registry
  router: ModelRouter
  /** Answers that are given again. */
  cache: ResultCache
  queue: Queue
  store: Store
  files: FileStore
  batches: Batches
  responses: StoredResponses
  responseEvents: ResponseEventLog
  webhooks: () => WebhookSettings
  clock: Clock
  log: Logger
  settings: () => GatewaySettings
  /** What is a tenant's own. */
  settingsOf: (tenant: string) => TenantSettings
  /** Keys, tokens and tenants. */
  access: AccessParts
  /** Where live requests are let in. */
  door: LiveDoor
}
