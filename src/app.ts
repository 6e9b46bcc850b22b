import { buildApiSide, type ApiSideParts, type Front } from './app-api.ts'
import { buildTaskSide, type TaskSide } from './app-tasks.ts'
import { buildUsageSide } from './app-usage.ts'
import { listRestartOnly, planFleet, readRules } from './app-settings.ts'
import type { Config } from './config/schema.ts'
import { systemClock, type Clock } from './core/clock.ts'
import { startInOrder } from './core/service.ts'
import { Fleet } from './fleet/fleet.ts'
import { makeAccess } from './gateway/auth/access-parts.ts'
import { refuseOpenDoor } from './gateway/auth/exposure.ts'
import { exposeFleet } from './gateway/fleet-metrics.ts'
import { toTenantRules } from './gateway/tenants/tenant-settings.ts'
import { keepFilesMs, readKeepTimes } from './gateway/tenants/keep-times.ts'
import { Router } from './router/router.ts'
import { openStore } from './storage/open-store.ts'
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
  if (options.role !== 'worker') refuseOpenDoor(config)
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
  const access = makeAccess({ config: () => current, store, env, clock, log })
  const settingsOf = (tenant: string) => access.tenants.of(tenant)
  const side = { config: () => current, env, store, router, registry, metrics, clock, log }
  const usage = buildUsageSide(side)
  const rulesOf = (tenant: string) => ({
    ...toTenantRules(settingsOf(tenant), (name) => router.resolve(name)),
    checkBudget: () => usage.checkBudget(tenant, settingsOf(tenant)),
  })
  const keep = {
    keepFilesMs: (tenant: string) => keepFilesMs(settingsOf(tenant), current.storage),
    keepTimes: () => readKeepTimes(access.tenants, current.storage),
  }
  const tasks = await buildTaskSide({ ...side, ...keep, rulesOf, onSettled: usage.noteTask })
  const front = await buildFront({
    ...{ ...side, access, usage, writeLine, tasks, live: tasks.live },
    version: options.version,
    hasApi: options.role !== 'worker',
    storageProblem: () => probe.problem,
  })
  exposeFleet(metrics, { registry, router, clock })
  registry.watch((event) => {
    if (event.type !== 'moved') return
    log.info({ instance: event.instance.id, from: event.from, to: event.to }, 'instance state')
  })

  // Ctrl-C while a model loads: nobody waits for it any more.
  const abandon = () => void fleet.stop()
  options.signal?.addEventListener('abort', abandon, { once: true })
  // The gateway listens before the fleet starts: a taken port is found before a model loads, and /livez answers
  // meanwhile. The storage is there for both, and goes last.
  const before = [store, access.gate, ...usage.services]
  const services = [...before, ...front.services, fleet, probe, ...tasks.services]
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
      front.cut()
    }
    // And it drains first: while requests are in flight, another instance must be there to take one over.
    stopping ??= Promise.all([front.drain(), tasks.drain()])
      .then(stopAll)
      .finally(() => {
        closeLog()
        closed.resolve()
      })
    await stopping
  }

  return {
    url: front.url,
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
      for (const name of listRestartOnly(current, next)) {
        log.warn({ setting: name }, 'this setting takes effect at the next start')
      }
      current = next
      await front.reload(next)
      log.info('configuration reloaded')
    },
    stop,
    closed: closed.promise,
  }
}

/** One server here, or one in each of several processes; what that takes is loaded by those who want it. */
async function buildFront(parts: ApiSideParts & { tasks: TaskSide }): Promise<Front> {
  if (!parts.hasApi || parts.config().server.processes === 1)
    return buildApiSide({ ...parts, desk: parts.tasks })
  const { buildProcesses } = await import('./app-processes.ts')
  return buildProcesses(parts)
}
