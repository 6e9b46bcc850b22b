import type { Config } from '../../config/schema.ts'
import type { Clock } from '../../core/clock.ts'
import type { Service } from '../../core/service.ts'
import type { Store } from '../../storage/store.ts'
import type { Logger } from '../../telemetry/log.ts'
import { TenantBook } from '../tenants/tenant-book.ts'
import { AccessWatch } from './access-watch.ts'
import { AuthGate } from './auth-gate.ts'
import type { Caller, Gate } from './caller.ts'
import { firstKeyCommand } from './exposure.ts'
import { trustIssuer } from './issuers.ts'
import { KeyJudge } from './key-judge.ts'
import { readKeySecret } from './key-secret.ts'
import { nameSecret } from './key-text.ts'
import { KeyBook } from './keys.ts'
import { makeOpenGate } from './open-gate.ts'
import { TokenIssuer } from './token-issuer.ts'
import { TokenJudge, type TrustedIssuer } from './token-judge.ts'
import { TokenKeys } from './token-keys.ts'

export type AccessPartsOptions = {
  /** The configuration in effect: `tenants` is read at each look, `auth` once. */
  config: () => Pick<Config, 'auth' | 'tenants' | 'server'>
  store: Store
  env: NodeJS.ProcessEnv
  clock: Clock
  log: Logger
}

/** Who may come in, and what is known of tenants: everything that the server, the routes and the limits need of it. */
export type AccessParts = {
  gate: Gate & Service
  tenants: TenantBook
  keys: KeyBook
  tokens: TokenIssuer
  tokenKeys: TokenKeys
  watch: AccessWatch
  required: boolean
}

/** Builds the parts. `gate` starts and stops all of them, after the storage and before the server listens. */
export function makeAccess(options: AccessPartsOptions): AccessParts {
  const { config, store, clock, log, env } = options
  const { auth } = config()
  const { access } = store
  const watch = new AccessWatch({ store, clock, log })
  const readSecret = remember(() => readKeySecret(access, auth, { env, nowMs: clock.wallMs() }))
  const keys = new KeyBook({ access, clock, readSecret })
  const tenants = new TenantBook({ access, watch, clock, log, configured: () => config().tenants })
  const tokenKeys = new TokenKeys({ access, watch, clock, log, rules: auth })
  const judge = new KeyJudge({ access, watch, clock, readSecret })
  const tokens = new TokenIssuer({ keys: tokenKeys, judge, clock, ttlMs: auth.tokenTtlMs })
  const gate = makeGate({ ...options, auth, watch, judge, tokens, tokenKeys, keys, readSecret })
  return { gate, tenants, keys, tokens, tokenKeys, watch, required: auth.required }
}

type GateParts = AccessPartsOptions & {
  auth: Config['auth']
  watch: AccessWatch
  judge: KeyJudge
  tokens: TokenIssuer
  tokenKeys: TokenKeys
  keys: KeyBook
  readSecret: () => Promise<string>
}

function makeGate(parts: GateParts): Gate & Service {
  const { auth, watch, tokenKeys } = parts
  const { server } = parts.config()
  let gate: Gate = auth.required ? closedGate : makeOpenGate(server.hosts, server)
  return {
    name: 'gate',
    async start() {
      if (auth.required) gate = await openAuthGate(parts)
      await watch.start()
      await tokenKeys.start()
      if (auth.required) await warnOfKeys(parts)
      else warnOfIssuers(parts)
    },
    async stop() {
      await tokenKeys.stop()
      await watch.stop()
    },
    identify: (request) => gate.identify(request),
  }
}

/** Before the start nobody can be known. */
const closedGate: Gate = {
  identify: (): Caller => {
    throw new Error('the gate has not started')
  },
}

async function openAuthGate(parts: GateParts): Promise<Gate> {
  const { auth, watch, judge, tokens, clock, log, env, readSecret } = parts
  await readSecret()
  const found: { gate: AuthGate | null } = { gate: null }
  const onChange = (issuer: string) => found.gate?.forgetIssuer(issuer)
  const issuers: TrustedIssuer[] = [tokens.toTrusted()]
  for (const issuer of auth.issuers) issuers.push(await trustIssuer(issuer, { env, clock, log, onChange }))
  found.gate = new AuthGate({ keys: judge, tokens: new TokenJudge(issuers, clock), watch, clock })
  return found.gate
}

/** Whoever has named issuers may think that their tokens are asked for. */
function warnOfIssuers({ auth: { issuers }, log }: GateParts): void {
  if (issuers.length === 0) return
  log.warn(
    { issuers: issuers.map(({ issuer }) => issuer) },
    'auth.issuers has no effect while auth.required is off: nobody is asked for a token; set auth.required: true',
  )
}

/** Tells of a server that nobody can use, before somebody wonders. */
async function warnOfKeys({ auth, keys, log, readSecret }: GateParts): Promise<void> {
  const [newest] = await keys.list({ limit: 1 })
  if (!newest) {
    if (auth.issuers.length > 0) return
    log.warn(
      `authentication is required and there is no key yet; make one, with the --config, --data-dir or --storage of this server (stop it first, unless the storage is PostgreSQL): ${firstKeyCommand}`,
    )
    return
  }
  if (!newest.hash.startsWith(`${nameSecret(await readSecret())}:`)) {
    log.warn(
      { key: newest.id },
      'the newest key was made under another secret (auth.keySecretEnv): such keys are refused; make new ones',
    )
  }
}

/** Asked once; a failure is asked again the next time. */
function remember<T>(read: () => Promise<T>): () => Promise<T> {
  let known: Promise<T> | null = null
  return () => {
    known ??= read().catch((error: unknown) => {
      known = null
      throw error
    })
    return known
  }
}
