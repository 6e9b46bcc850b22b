import type { IssuerConfig } from '../../config/schema.ts'
import type { Clock } from '../../core/clock.ts'
import type { Logger } from '../../telemetry/log.ts'
import { readClaims } from './claims.ts'
import { KeyFile } from './key-file.ts'
import { KeyUrl } from './key-url.ts'
import type { TrustedIssuer } from './token-judge.ts'

/** Also while no other token asks for them, keys that were taken away are missed within this. */
const believedForMs = 60_000

type IssuerParts = {
  env: NodeJS.ProcessEnv
  clock: Clock
  log: Logger
  /** Told when the keys of this issuer have changed: what was verified with the old ones must be looked at again. */
  onChange: (issuer: string) => void
}

/** An issuer of the configuration. The returned promise throws SetupError when its keys can't be had. */
export async function trustIssuer(config: IssuerConfig, parts: IssuerParts): Promise<TrustedIssuer> {
  return {
    issuer: config.issuer,
    audiences: config.audiences,
    algorithms: config.algorithms,
    leewayMs: config.leewayMs,
    tokenAgeMaxMs: config.tokenAgeMaxMs,
    believedForMs,
    findKey: await findKeys(config, parts),
    admit: (payload) => Promise.resolve({ caller: readClaims(payload, config), keyExpiresAtMs: Infinity }),
  }
}

async function findKeys(config: IssuerConfig, parts: IssuerParts): Promise<TrustedIssuer['findKey']> {
  const { issuer, jwksUrl, jwksFile, secretEnv } = config
  const source = { issuer, clock: parts.clock, log: parts.log, onChange: () => parts.onChange(issuer) }
  if (jwksUrl !== '') {
    const keys = new KeyUrl({ ...source, url: jwksUrl })
    return (header) => keys.find(header)
  }
  if (jwksFile !== '') {
    const keys = new KeyFile({ ...source, path: jwksFile })
    await keys.start()
    return (header) => keys.find(header)
  }
  // The checks of the configuration have seen to it that its algorithms are HS alone.
  const secret = new TextEncoder().encode(parts.env[secretEnv] ?? '')
  return () => Promise.resolve(secret)
}
