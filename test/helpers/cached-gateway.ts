import { planFleet, readRules, readSettings } from '../../src/app-settings.ts'
import type { Config } from '../../src/config/schema.ts'
import { systemClock } from '../../src/core/clock.ts'
import { startInOrder } from '../../src/core/service.ts'
import { Fleet } from '../../src/fleet/fleet.ts'
import { RequestBook } from '../../src/gateway/request-book.ts'
import { RequestMetrics } from '../../src/gateway/request-metrics.ts'
import { addModelCallRoutes, makeModelCalls } from '../../src/gateway/routes/model-calls.ts'
import { GatewayServer } from '../../src/gateway/server.ts'
import { Router } from '../../src/router/router.ts'
import { ResultCache } from '../../src/storage/result-cache.ts'
import { openLog } from '../../src/telemetry/log.ts'
import { MetricsRegistry } from '../../src/telemetry/metrics.ts'
import { ManualClock } from './clock.ts'
import { FakeCacheStore } from './cache-store.ts'
import { makeConfig } from './gateway.ts'
import { openHouse } from './open-house.ts'

/** The gateway with its cache, whose clock stands still and whose storage is in memory. */
export async function startCachedGateway(
  tree: Record<string, unknown>,
  given: { store?: FakeCacheStore; clock?: ManualClock } = {},
) {
  let config: Config = await makeConfig(tree)
  const clock = given.clock ?? new ManualClock()
  const store = given.store ?? new FakeCacheStore()
  const { log } = openLog({ level: 'silent', format: 'json' }, systemClock)
  const { log: bookLog } = openLog({ level: 'info', format: 'json' }, systemClock)
  const metrics = new MetricsRegistry()
  const fleet = new Fleet({ plan: await planFleet(config, undefined), clock: systemClock, log, env: {} })
  const { registry } = fleet
  const router = new Router({ registry, rules: readRules(config), clock: systemClock, log })
  const cache = new ResultCache({ store, clock, log, settings: () => config.cache })
  const lines: Record<string, unknown>[] = []
  const writeLine = (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>)
  const book = new RequestBook({
    clock: systemClock,
    log: bookLog,
    writeLine,
    metrics: new RequestMetrics(metrics),
  })
  const settings = () => readSettings(config)
  const calls = makeModelCalls(
    { registry, router, cache, log, clock: systemClock, settings, door: openHouse.door },
    book,
    config.server,
  )
  const gateway = new GatewayServer({
    ...{ registry, metrics, log, book, clock: systemClock },
    gate: openHouse.gate,
    storageProblem: () => null,
    components: ['llm-router'],
    version: 'test',
    limits: config.server,
    api: { calls, addRoutes: (app) => addModelCallRoutes(app, calls) },
  })
  const stop = await startInOrder([cache, gateway, fleet])
  return {
    url: gateway.url,
    ...{ cache, store, clock, registry, lines },
    /** Takes over another configuration, as the program does. */
    async reload(next: Record<string, unknown>): Promise<void> {
      const made = await makeConfig(next)
      await fleet.apply(await planFleet(made, undefined))
      router.configure(readRules(made))
      config = made
    },
    stop,
    async [Symbol.asyncDispose](): Promise<void> {
      gateway.cut()
      await stop()
    },
  }
}

export type CachedGateway = Awaited<ReturnType<typeof startCachedGateway>>
