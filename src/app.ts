import { buildTaskSide } from './app-tasks.ts'
import { listRestartOnly, planFleet, readRules, readSettings } from './app-settings.ts'
import type { Config } from './config/schema.ts'
import { systemClock, type Clock } from './core/clock.ts'
import { startInOrder } from './core/service.ts'
import { Fleet } from './fleet/fleet.ts'
import { makeApi, noApi } from './gateway/api.ts'
import { exposeCache } from './gateway/cache-metrics.ts'
import { exposeFleet } from './gateway/fleet-metrics.ts'
import type { ApiParts } from './gateway/parts.ts'
import { RequestBook } from './gateway/request-book.ts'
import { RequestMetrics } from './gateway/request-metrics.ts'
import { GatewayServer } from './gateway/server.ts'
import { LiveRouter } from './queue/live-router.ts'
import { Router } from './router/router.ts'
import { openStore } from './storage/open-store.ts'
import { ResultCache } from './storage/result-cache.ts'
import { StorageProbe } from './storage/storage-probe.ts'
import { openLog } from './telemetry/log.ts'
import { MetricsRegistry } from './telemetry/metrics.ts'

/** A server that is up. */
export type RunningApp = {
  url: string
  models: readonly { id: string; instances: readonly { id: string; state: string }[] }[]
  /** Upstreams that have not said yet which models they serve. */
  silent: readonly string[]
  /** Takes over another configuration; throws, and changes nothing, when it can't be used. */
  reload(config: Config): Promise<void>
  /** Drains, then stops everything; with `force` at once. Safe to call again. */
  stop(options?: { force?: boolean }): Promise<void>
  /** Resolves when everything has stopped. */
  closed: Promise<void>
}

const components = ['llm-router', 'task-queue', 'storage-engine'] as const

/** A worker has no API: it works on the tasks of a store that it shares with servers. */
export type Role = 'server' | 'worker'

/**
 * The composition root: builds the parts from the configuration, starts them in order, stops them in reverse. Throws
 * a SetupError when something can't start, and leaves nothing running then.
 */
export async function startApp(
  config: Config,
  options: { version: string; role?: Role; signal?: AbortSignal; clock?: Clock; env?: NodeJS.ProcessEnv },
): Promise<RunningApp> {
  const clock = options.clock ?? systemClock
  const env = options.env ?? process.env
  const { log, writeLine, close: closeLog } = openLog(config.log, clock)
  const metrics = new MetricsRegistry()
  metrics.collectProcess()

  let current = config
  const fleet = new Fleet({ plan: await planFleet(config, options.signal), clock, log, env })
  const { registry } = fleet
  const router = new Router({ registry, rules: readRules(config), clock, log })
  const store = await openStore(config.storage, { dataDir: config.dataDir, clock, log })
  const probe = new StorageProbe({ store, clock })
  const cache = new ResultCache({ store: store.cache, clock, log, settings: () => current.cache })
  const side = { config: () => current, env, store, router, registry, metrics, clock, log }
  const tasks = await buildTaskSide(side)
  let settings = readSettings(config)
  const book = new RequestBook({ clock, log, writeLine, metrics: new RequestMetrics(metrics) })
  const apiParts: ApiParts = {
    ...{ registry, cache, store, clock, log },
    ...tasks,
    router: new LiveRouter({ router, live: tasks.live, clock }),
    settings: () => settings,
  }
  const gateway = new GatewayServer({
    ...{ registry, metrics, clock, log, components, book },
    storageProblem: () => probe.problem,
    version: options.version,
    limits: config.server,
    api: options.role === 'worker' ? noApi : makeApi(apiParts, book, config.server),
  })
  exposeFleet(metrics, { registry, router, clock })
  exposeCache(metrics, cache)
  registry.watch((event) => {
    if (event.type !== 'moved') return
    log.info({ instance: event.instance.id, from: event.from, to: event.to }, 'instance state')
  })

  // Ctrl-C while a model loads: nobody waits for it any more.
  const abandon = () => void fleet.stop()
  options.signal?.addEventListener('abort', abandon, { once: true })
  // The gateway listens before the fleet starts: a taken port is found before a model loads, and /livez answers
  // meanwhile. The storage is there for both, and goes last.
  const services = [store, gateway, fleet, probe, cache, ...tasks.services]
  const stopAll = await startInOrder(services).catch((error: unknown) => {
    closeLog()
    throw error
  })
  options.signal?.removeEventListener('abort', abandon)

  const closed = Promise.withResolvers<void>()
  let stopping: Promise<void> | null = null
  const stop = async ({ force = false } = {}) => {
    if (force) {
      // Given back before their instances die: that is no failure of the tasks.
      tasks.cut()
      fleet.killAll()
      gateway.cut()
    }
    // And it drains first: while requests are in flight, another instance must be there to take one over.
    stopping ??= Promise.all([gateway.stop(), tasks.drain()])
      .then(stopAll)
      .finally(() => {
        closeLog()
        closed.resolve()
      })
    await stopping
  }

  return {
    url: gateway.url,
    get models() {
      return registry.models.map((id) => ({
        id,
        instances: registry.of(id).map((instance) => ({ id: instance.id, state: instance.state })),
      }))
    },
    get silent() {
      return registry.all.filter(({ spec }) => spec.models.size === 0).map(({ id }) => id)
    },
    async reload(next) {
      await fleet.apply(await planFleet(next, options.signal))
      router.configure(readRules(next))
      settings = readSettings(next)
      for (const name of listRestartOnly(current, next)) {
        log.warn({ setting: name }, 'this setting takes effect at the next start')
      }
      current = next
      log.info('configuration reloaded')
    },
    stop,
    closed: closed.promise,
  }
}
