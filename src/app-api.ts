import { buildLiveSide } from './app-live.ts'
import { readSettings } from './app-settings.ts'
import type { TaskDesk } from './app-task-desk.ts'
import type { UsageSide } from './app-usage.ts'
import type { Config } from './config/schema.ts'
import type { Clock } from './core/clock.ts'
import type { Service } from './core/service.ts'
import type { Registry } from './fleet/registry.ts'
import { makeApi, noApi } from './gateway/api.ts'
import type { AccessParts } from './gateway/auth/access-parts.ts'
import { exposeCache } from './gateway/cache-metrics.ts'
import type { Authority } from './gateway/limits/shared/authority.ts'
import type { ApiParts, GatewayParts } from './gateway/parts.ts'
import { RequestBook } from './gateway/request-book.ts'
import { RequestMetrics } from './gateway/request-metrics.ts'
import { GatewayServer } from './gateway/server.ts'
import type { LiveBook, LiveSignals } from './queue/live-signals.ts'
import type { Router } from './router/router.ts'
import { ResultCache } from './storage/result-cache.ts'
import type { Store } from './storage/store.ts'
import type { Logger } from './telemetry/log.ts'
import type { MetricsRegistry } from './telemetry/metrics.ts'

/** What takes requests: a server in this process, or several processes. */
export type Front = {
  /** Only while it listens. */
  readonly url: string
  /** In the order in which they start; the last of them listens. */
  services: readonly Service[]
  /** Takes no more requests, and lets those in flight end up to the drain limit. */
  drain(): Promise<void>
  /** Ends all connections at once. */
  cut(): void
  /** The configuration is another one; resolves when that has come into effect. */
  reload(config: Config): Promise<void>
}

export const components = ['llm-router', 'task-queue', 'storage-engine'] as const

export type ApiSideParts = {
  config: () => Config
  env: NodeJS.ProcessEnv
  version: string
  store: Store
  router: Router
  registry: Registry
  access: AccessParts
  usage: UsageSide
  live: LiveSignals & Pick<LiveBook, 'look'>
  storageProblem: () => string | null
  metrics: MetricsRegistry
  clock: Clock
  log: Logger
  writeLine: (line: string) => void
  /** False for nothing but health and metrics. */
  hasApi: boolean
  /** What /metrics shows; this process alone when it is left out. */
  shown?: GatewayParts['metrics']
  /** See `app-live.ts`. */
  authority?: Authority
  processes?: number
}

/** The HTTP server in this process, with all that it offers. */
export async function buildApiSide(parts: ApiSideParts & { desk: TaskDesk }): Promise<Front> {
  const { config, store, registry, access, desk, metrics, clock, log } = parts
  const cache = new ResultCache({ store: store.cache, clock, log, settings: () => config().cache })
  const live = await buildLiveSide({ ...parts, tenants: access.tenants })
  const book = new RequestBook({
    ...{ clock, log, writeLine: parts.writeLine },
    metrics: new RequestMetrics(metrics),
    onEnd: live.onEnd,
  })
  const apiParts: ApiParts = {
    ...{ registry, cache, store, access, clock, log },
    ...desk,
    ...{ router: live.router, door: live.door },
    settingsOf: (tenant) => access.tenants.of(tenant),
    settings: remember(config, readSettings),
  }
  const { server } = config()
  const gateway = new GatewayServer({
    ...{ registry, clock, log, components, book },
    metrics: parts.shown ?? metrics,
    storageProblem: parts.storageProblem,
    version: parts.version,
    limits: server,
    gate: access.gate,
    api: parts.hasApi ? makeApi(apiParts, book, server) : noApi,
  })
  exposeCache(metrics, cache)
  return {
    get url() {
      return gateway.url
    },
    services: [...live.services, cache, gateway],
    drain: () => gateway.stop(),
    cut: () => gateway.cut(),
    // All parts of it read the configuration when they need it.
    reload: () => Promise.resolve(),
  }
}

/** What is made of a value; made again when it is another one. */
function remember<T, V>(read: () => T, make: (from: T) => V): () => V {
  let from = read()
  let made = make(from)
  return () => {
    const now = read()
    if (now !== from) {
      from = now
      made = make(now)
    }
    return made
  }
}
