import { readLimitStore } from './app-settings.ts'
import type { Config } from './config/schema.ts'
import type { Clock } from './core/clock.ts'
import type { Service } from './core/service.ts'
import type { UsageSide } from './app-usage.ts'
import type { Registry } from './fleet/registry.ts'
import { AdmittedRouter } from './gateway/admission/admitted-router.ts'
import { Admission } from './gateway/admission/admission.ts'
import { readCapacity } from './gateway/admission/capacity.ts'
import { countRefusals, exposeLimits } from './gateway/limit-metrics.ts'
import { FailureShare } from './gateway/limits/failure-share.ts'
import { Limiter } from './gateway/limits/limiter.ts'
import type { Authority } from './gateway/limits/shared/authority.ts'
import { openDoor, type LiveDoor } from './gateway/live-door.ts'
import type { RequestRecord } from './gateway/request-record.ts'
import type { TenantBook } from './gateway/tenants/tenant-book.ts'
import { LiveRouter, type ModelRouter } from './queue/live-router.ts'
import type { LiveBook, LiveSignals } from './queue/live-signals.ts'
import type { Router } from './router/router.ts'
import type { Logger } from './telemetry/log.ts'
import type { MetricsRegistry } from './telemetry/metrics.ts'

/** What stands between a caller who waits and the models: how much, and when. */
export type LiveSide = {
  door: LiveDoor
  router: ModelRouter
  /** To be told of every request that has ended. */
  onEnd: (record: RequestRecord, durationMs: number) => void
  /** In the order in which they start. */
  services: readonly Service[]
}

type Parts = {
  config: () => Config
  env: NodeJS.ProcessEnv
  tenants: TenantBook
  router: Router
  registry: Registry
  live: LiveSignals & Pick<LiveBook, 'look'>
  /** Where limits are kept together with other processes of this machine, unless they are in Redis. */
  authority?: Authority
  /** Of so many processes that share the fleet, each admits its part. */
  processes?: number
  usage: Pick<UsageSide, 'checkBudget' | 'noteRequest'>
  metrics: MetricsRegistry
  clock: Clock
  log: Logger
}

/** Builds it. */
export async function buildLiveSide(parts: Parts): Promise<LiveSide> {
  const { config, env, tenants, router, registry, live, usage, metrics, clock, log, processes = 1 } = parts
  const failures = new FailureShare(clock)
  const limiter = new Limiter({
    settings: () => config().limits,
    ...{ clock, log },
    health: () => ({ live: live.look(registry.models), errorShare: failures.read() }),
    authority: (await readLimitStore(config(), env)) ?? parts.authority ?? null,
    onRefused: countRefusals(metrics),
  })
  exposeLimits(metrics, limiter)
  const admission = new Admission({
    ...{ clock, metrics },
    settings: () => config().admission,
    capacityOf: (model) => readCapacity(registry, model, processes),
    isServed: (model) => router.resolve(model) !== null,
  })
  return {
    door: openDoor({
      settingsOf: (tenant) => tenants.of(tenant),
      ...{ limiter, checkBudget: usage.checkBudget },
    }),
    router: new LiveRouter({ router: new AdmittedRouter({ router, admission }), live, clock }),
    onEnd: (record, durationMs) => {
      usage.noteRequest(record, durationMs)
      if (record.instance !== null && record.cache !== 'hit') failures.note(record.status >= 500)
    },
    services: [limiter, admission],
  }
}
