import { listRestartOnly, planFleet, readRules, readSettings } from './app-settings.ts'
import type { Config } from './config/schema.ts'
import { systemClock, type Clock } from './core/clock.ts'
import { startInOrder } from './core/service.ts'
import { Fleet } from './fleet/fleet.ts'
import { exposeFleet } from './gateway/fleet-metrics.ts'
import { RequestBook } from './gateway/request-book.ts'
import { RequestMetrics } from './gateway/request-metrics.ts'
import { GatewayServer } from './gateway/server.ts'
import { Router } from './router/router.ts'
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

const components = ['llm-router'] as const

/**
 * The composition root: builds the parts from the configuration, starts them in order, stops them in reverse. Throws
 * a SetupError when something can't start, and leaves nothing running then.
 */
export async function startApp(
  config: Config,
  options: { version: string; signal?: AbortSignal; clock?: Clock; env?: NodeJS.ProcessEnv },
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
  let settings = readSettings(config)
  const gateway = new GatewayServer({
    registry,
    router,
    metrics,
    clock,
    log,
    components,
    storageProblem: () => null,
    settings: () => settings,
    version: options.version,
    book: new RequestBook({ clock, log, writeLine, metrics: new RequestMetrics(metrics) }),
    limits: config.server,
  })
  exposeFleet(metrics, { registry, router, clock })
  registry.watch((event) => {
    if (event.type !== 'moved') return
    log.info({ instance: event.instance.id, from: event.from, to: event.to }, 'instance state')
  })

  // Ctrl-C while a model loads: nobody waits for it any more.
  const abandon = () => void fleet.stop()
  options.signal?.addEventListener('abort', abandon, { once: true })
  // The gateway listens first: a taken port is found before a model loads, and /livez answers meanwhile.
  const stopAll = await startInOrder([gateway, fleet]).catch((error: unknown) => {
    closeLog()
    throw error
  })
  options.signal?.removeEventListener('abort', abandon)

  const closed = Promise.withResolvers<void>()
  let stopping: Promise<void> | null = null
  const stop = async ({ force = false } = {}) => {
    if (force) {
      fleet.killAll()
      gateway.cut()
    }
    // And it drains first: while requests are in flight, another instance must be there to take one over.
    stopping ??= gateway
      .stop()
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
