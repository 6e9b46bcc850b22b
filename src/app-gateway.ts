import { buildApiSide } from './app-api.ts'
import { readRules } from './app-settings.ts'
import { buildTaskDesk } from './app-task-desk.ts'
import { buildUsageSide } from './app-usage.ts'
import type { Config } from './config/schema.ts'
import { systemClock } from './core/clock.ts'
import { SetupError } from './core/errors.ts'
import { startInOrder } from './core/service.ts'
import type { Wire } from './core/wire.ts'
import { MirrorFleet } from './fleet/mirror/mirror-fleet.ts'
import { makeAccess } from './gateway/auth/access-parts.ts'
import { exposeFleet } from './gateway/fleet-metrics.ts'
import { WireAuthority } from './gateway/limits/shared/wire-authority.ts'
import { keepFilesMs } from './gateway/tenants/keep-times.ts'
import { toTenantRules } from './gateway/tenants/tenant-settings.ts'
import type { MachineState, Started, Welcome } from './processes/messages.ts'
import { NewsDesk, ToldProgress } from './queue/news.ts'
import { ToldLiveBook } from './queue/shared-signals.ts'
import { Router } from './router/router.ts'
import { makeRemoteStore } from './storage/remote/remote-store.ts'
import { openLog } from './telemetry/log.ts'
import { MetricsRegistry } from './telemetry/metrics.ts'

/**
 * The composition root of a gateway process, one of several that share a port: it takes requests and sends them to the
 * instances itself; storage, fleet, limits and tasks it reaches in the first process (`app-processes.ts`).
 */
export async function runGateway(wire: Wire): Promise<void> {
  const exit = (code: number): void => process.exit(code)
  let stop = () => exit(0)
  // The first process ends it; a signal at the terminal reaches all of them.
  for (const ignored of ['SIGINT', 'SIGHUP'] as const) process.on(ignored, () => {})
  // One by one, so that each can be replaced by hand: another takes its place.
  process.on('SIGTERM', () => stop())
  wire.on('stop', () => stop())
  // Nobody is there any more who has the storage and the models: nothing can be finished.
  void wire.closed.then(() => exit(0))
  const report = (outcome: Started) => wire.ask('started', outcome)
  try {
    const gateway = await startGateway(wire)
    let stopping = false
    stop = () => {
      if (stopping) return
      stopping = true
      void gateway.stop().then(
        () => exit(0),
        () => exit(1),
      )
    }
    await report({ url: gateway.url })
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error)
    await report({ problem, isSetup: error instanceof SetupError })
    exit(1)
  }
}

async function startGateway(wire: Wire): Promise<{ url: string; stop(): Promise<void> }> {
  const clock = systemClock
  const { env } = process
  let current: Config | null = null
  let onReload = (_next: Config) => {}
  // Heard from the first moment on: a change must not fall between the welcome and the start.
  wire.on('reload', (next: Config) => {
    current = next
    onReload(next)
  })
  const { number, config: first, version, state: begin } = await wire.ask<Welcome>('welcome', null)
  const config = () => current ?? first
  let state = begin
  const opened = openLog({ ...first.log, format: 'json' }, clock)
  const { writeLine } = opened
  const log = opened.log.child({ process: number })
  const metrics = new MetricsRegistry()
  metrics.collectProcess()

  const fleet = new MirrorFleet({ wire, clock, limits: () => config().timeouts })
  const { registry } = fleet
  const router = new Router({ registry, rules: readRules(config()), clock, log })
  fleet.watchModels(router.health)
  onReload = (next) => router.configure(readRules(next))
  const store = makeRemoteStore(wire)
  const access = makeAccess({ config, store, env, clock, log })
  const settingsOf = (tenant: string) => access.tenants.of(tenant)
  const usage = buildUsageSide({ config, store, metrics, clock, log })
  const news = new NewsDesk(wire)
  const progress = new ToldProgress(news, clock)
  const live = new ToldLiveBook({ wire, clock })
  const desk = buildTaskDesk({
    ...{ config, env, store, router, clock, log, progress },
    rulesOf: (tenant) => ({
      ...toTenantRules(settingsOf(tenant), (name) => router.resolve(name)),
      checkBudget: () => usage.checkBudget(tenant, settingsOf(tenant)),
    }),
    keepFilesMs: (tenant) => keepFilesMs(settingsOf(tenant), config().storage),
    onBatch: () => wire.tell('batch', null),
    watchEvents: (id, listener) => news.watch('events', id, () => listener()),
  })
  const front = await buildApiSide({
    ...{ config, env, version, store, router, registry, access, usage, desk, live },
    ...{ metrics, clock, log, writeLine },
    hasApi: true,
    storageProblem: () => state.storageProblem,
    shown: { contentType: metrics.contentType, expose: () => wire.ask<string>('metrics', null) },
    authority: new WireAuthority(wire),
    processes: first.server.processes,
  })
  exposeFleet(metrics, { registry, router, clock })
  wire.on('are-you-well', () => true)
  wire.on('read-metrics', () => metrics.read())
  wire.on('state', (next: MachineState) => {
    state = next
    progress.endsPerSecond = next.endsPerSecond
  })

  const services = [access.gate, ...usage.services, fleet, live, ...front.services]
  const stopAll = await startInOrder(services).catch((error: unknown) => {
    opened.close()
    throw error
  })
  return {
    url: front.url,
    stop: () =>
      front
        .drain()
        .then(stopAll)
        .finally(() => opened.close()),
  }
}
