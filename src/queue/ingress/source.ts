import type { Config } from '../../config/schema.ts'
import type { Clock } from '../../core/clock.ts'
import { SetupError } from '../../core/errors.ts'
import type { Service } from '../../core/service.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { Queue } from '../queue.ts'
import type { MessageRules } from './message.ts'
import type { Verdict } from './verdict.ts'

export type IngressConfig = Config['ingress'][number]

/**
 * A broker that brings tasks. It starts whether the broker is there or not, and goes on trying. A message is
 * acknowledged after its task is on disk: the store is the truth, the broker only brings.
 */
export interface TaskSource extends Service {
  /** Whether messages come at the moment. */
  readonly connected: boolean
}

export type SourceParts = {
  queue: Pick<Queue, 'submitAll'>
  clock: Clock
  log: Logger
  rules: () => Omit<MessageRules, 'nowMs'>
  env: Readonly<Record<string, string | undefined>>
  /** What became of each message, for metrics. */
  count?: (source: string, kind: Verdict['kind']) => void
  random?: () => number
}

/** Where a broker is and as whom to go there. Never logged whole. */
export type BrokerAddress = {
  protocol: string
  host: string
  port: number | null
  user: string
  password: string
  path: string
}

/** Reads the URL and the password, which the environment may hold. Throws SetupError, which shows neither. */
export function readAddress(config: IngressConfig, env: SourceParts['env']): BrokerAddress {
  const url = URL.parse(config.url)
  if (!url) throw new SetupError(`ingress ${config.name}: \`url\` is not a URL.`)
  const { passwordEnv } = config
  const fromEnv = passwordEnv === '' ? null : (env[passwordEnv] ?? '')
  if (fromEnv === '') {
    throw new SetupError(`ingress ${config.name}: passwordEnv names ${passwordEnv}, which is not set.`)
  }
  try {
    return {
      protocol: url.protocol.replace(':', ''),
      host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
      port: url.port === '' ? null : Number(url.port),
      user: decodeURIComponent(url.username),
      password: fromEnv ?? decodeURIComponent(url.password),
      path: decodeURIComponent(url.pathname.replace(/^\//, '')),
    }
  } catch {
    throw new SetupError(
      `ingress ${config.name}: \`url\` holds a \`%\` that is not followed by two hex digits.`,
    )
  }
}
