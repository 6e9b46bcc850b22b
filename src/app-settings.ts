import type { Config } from './config/schema.ts'
import { resolveModelFile } from './fleet/model-file.ts'
import type { FleetPlan } from './fleet/plan.ts'
import type { Authority } from './gateway/limits/shared/authority.ts'
import type { GatewaySettings } from './gateway/parts.ts'
import type { RoutingRules } from './router/router.ts'

/** What each part needs of the configuration. */

export async function planFleet(config: Config, signal: AbortSignal | undefined): Promise<FleetPlan> {
  const models = []
  for (const model of config.models) {
    const { path, version } = await resolveModelFile(model.source, {
      dataDir: config.dataDir,
      ...(signal ? { signal } : {}),
    })
    models.push({ config: model, path, version })
  }
  return { models, upstreams: config.upstreams, config }
}

export function readRules({ routing, health, timeouts }: Config): RoutingRules {
  return { ...routing, firstByteMs: timeouts.firstByteMs, idleMs: timeouts.idleMs, health }
}

export function readSettings({ server, routing, timeouts, log }: Config): GatewaySettings {
  return {
    jsonDepthMax: server.jsonDepthMax,
    sessionHeader: routing.sessionHeader.toLowerCase(),
    stallMs: timeouts.idleMs,
    logsPrompts: log.prompts,
  }
}

/** Settings that differ and that only a restart can change: they belong to the listening socket or to open files. */
export function listRestartOnly(before: Config, after: Config): string[] {
  const read = ({ dataDir, log, server, health, storage, ingress, webhooks, auth, redis }: Config) => ({
    dataDir,
    'storage.url': storage.url,
    'storage.connectionsMax': storage.connectionsMax,
    'webhooks.secretEnv': webhooks.secretEnv,
    ingress: JSON.stringify(ingress),
    auth: JSON.stringify(auth),
    redis: JSON.stringify(redis),
    'log.level': log.level,
    'log.format': log.format,
    ...Object.fromEntries(
      Object.entries({ ...server, jsonDepthMax: 0 }).map(([key, value]) => [
        `server.${key}`,
        JSON.stringify(value),
      ]),
    ),
    'health.probeIntervalMs': health.probeIntervalMs,
  })
  const old: Record<string, unknown> = read(before)
  return Object.entries(read(after))
    .filter(([name, value]) => old[name] !== value)
    .map(([name]) => name)
}

/** Where several servers keep their limits together; null when each keeps its own. */
export async function readLimitStore({ redis }: Config, env: NodeJS.ProcessEnv): Promise<Authority | null> {
  if (redis.url === '') return null
  const { RedisAuthority } = await import('./gateway/limits/shared/redis-authority.ts')
  const password = redis.passwordEnv === '' ? undefined : env[redis.passwordEnv]
  return new RedisAuthority({ url: redis.url, password, prefix: redis.prefix })
}
