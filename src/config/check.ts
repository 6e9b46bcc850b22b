import { tenantPattern } from '../core/ids.ts'
import type { Draft } from './normalise.ts'
import { ownIssuer } from './schema.ts'
import type { Path } from './problem.ts'
import { suggest } from './suggest.ts'
import type { Finding } from './validate.ts'

/** What must hold between knobs that are each fine alone. Pure: the same draft and environment, the same findings. */

const wrong = (path: Path, what: string, shown: string | null = null): Finding => ({
  path,
  at: 'value',
  shown,
  what,
})
const wrongKey = (path: Path, what: string): Finding => ({ path, at: 'key', shown: null, what })
const quote = (text: string) => JSON.stringify(text)

/** `"tiny" or "llama"`; long lists are cut, for the message must stay a line. */
function listNames(names: readonly string[]): string {
  const shown = names.slice(0, 8).map(quote).join(', ')
  return names.length > 8 ? `${shown}, …` : shown
}

function repeated(names: readonly string[]): { at: number; first: number; name: string }[] {
  return names.flatMap((name, at) => {
    const first = names.indexOf(name)
    return first < at ? [{ at, first, name }] : []
  })
}

function checkNames({ models, upstreams }: Draft): Finding[] {
  const modelNames = repeated(models.map(({ name }) => name)).map(({ at, first, name }) =>
    wrong(['models', at, 'name'], `is taken by models[${first}]; raise its instances, or choose another name`, quote(name)),
  )
  const upstreamNames = repeated(upstreams.map(({ name }) => name)).map(({ at, first, name }) =>
    wrong(['upstreams', at, 'name'], `is taken by upstreams[${first}]; choose another name`, quote(name)),
  )
  const local = new Map<string, string>(
    models.flatMap(({ name, instances }) =>
      Array.from({ length: instances }, (_, at) => [`${name}-${at}`, name] as const),
    ),
  )
  const shared = upstreams.flatMap(({ name }, at) => {
    const model = local.get(name)
    if (model === undefined) return []
    return [wrong(['upstreams', at, 'name'], `is the name of an instance of the model ${quote(model)}; choose another name`, quote(name))]
  })
  return [...modelNames, ...upstreamNames, ...shared]
} // prettier-ignore

function checkUrl(url: string, path: Path): Finding[] {
  if (!URL.canParse(url)) return [wrong(path, 'is not a URL; write one such as http://127.0.0.1:8000/v1', '(not shown)')]
  const { username, password, search, hash } = new URL(url)
  if (username !== '' || password !== '') {
    return [wrong(path, 'must not hold a user or a password; put the key into a variable and name it in apiKeyEnv', '(not shown)')]
  }
  if (search !== '' || hash !== '') {
    return [wrong(path, 'must end before any "?" or "#"; a key belongs into a variable that apiKeyEnv names', '(not shown)')]
  }
  return []
} // prettier-ignore

/** A user and a password may be in it, as is usual for Redis: it is never shown. */
function checkRedisUrl(url: string): Finding[] {
  if (url === '' || URL.canParse(url)) return []
  return [wrong(['redis', 'url'], 'is not a URL; write one such as redis://127.0.0.1:6379', '(not shown)')]
}

/** A name in capitals is a name; anything else could be the key itself, pasted into the wrong place. */
const looksLikeName = (text: string) => /^[A-Z_][A-Z0-9_]{0,63}$/.test(text)

type Env = Readonly<Record<string, string | undefined>>
type Given = Readonly<Record<string, unknown>>

/** The setting at `path` names a variable, or is empty; a name without a value is a mistake. */
function checkVariable(name: string, path: Path, env: Env): Finding[] {
  if (name === '' || env[name]) return []
  const what = `names a variable that is not set; set it, or leave ${path.at(-1)} out`
  return [wrong(path, what, looksLikeName(name) ? quote(name) : '(not shown)')]
}

function checkUpstreams({ upstreams }: Draft, env: Env): Finding[] {
  return upstreams.flatMap(({ url, apiKeyEnv }, at) => [
    ...checkUrl(url, ['upstreams', at, 'url']),
    ...checkVariable(apiKeyEnv, ['upstreams', at, 'apiKeyEnv'], env),
  ])
}

const checkVariables = ({ webhooks, ingress, auth, redis }: Draft, env: Env): Finding[] => [
  ...checkVariable(auth.keySecretEnv, ['auth', 'keySecretEnv'], env),
  ...checkVariable(redis.passwordEnv, ['redis', 'passwordEnv'], env),
  ...checkRedisUrl(redis.url),
  ...checkVariable(webhooks.secretEnv, ['webhooks', 'secretEnv'], env),
  ...ingress.flatMap(({ passwordEnv }, at) =>
    checkVariable(passwordEnv, ['ingress', at, 'passwordEnv'], env),
  ),
]

/** A shared secret for the one sort, a public key for the other: a public key as a secret would let anybody sign. */
const isShared = (algorithm: string) => algorithm.startsWith('HS')

const sharedSecretBytesMin = 32

function checkIssuers({ auth }: Draft, env: Env): Finding[] {
  const { issuers } = auth
  const names = repeated(issuers.map(({ issuer }) => issuer)).map(({ at, first, name }) =>
    wrong(['auth', 'issuers', at, 'issuer'], `is that of auth.issuers[${first}] too; each issuer has one entry`, quote(name)),
  )
  return [...names, ...issuers.flatMap((issuer, at) => checkIssuer(issuer, ['auth', 'issuers', at], env))]
} // prettier-ignore

function checkIssuer(issuer: Draft['auth']['issuers'][number], path: Path, env: Env): Finding[] {
  const { algorithms, audiences, jwksUrl, jwksFile, secretEnv } = issuer
  const findings: Finding[] = []
  const say = (knob: string, what: string, shown: string | null = null) =>
    findings.push(wrong([...path, knob], what, shown))

  if (issuer.issuer === ownIssuer) say('issuer', "is the name of this server's own tokens; another is needed", quote(ownIssuer))
  if (audiences.length === 0) say('audiences', 'is empty; a token of this issuer for somebody else must not be good here')
  if (algorithms.length === 0) say('algorithms', 'is empty; name those that the issuer signs with, such as RS256')
  const sources = [jwksUrl, jwksFile, secretEnv].filter((source) => source !== '').length
  if (sources !== 1) {
    const what = sources === 0 ? 'has no keys' : 'has its keys from several places'
    findings.push(wrong(path, `${what}; exactly one of jwksUrl, jwksFile and secretEnv is needed`))
    return findings
  }
  const misfits = algorithms.filter((algorithm) => isShared(algorithm) !== (secretEnv !== ''))
  if (misfits.length > 0) {
    const what = secretEnv === ''
      ? 'can only be checked with a shared secret (secretEnv), never with public keys'
      : 'can only be checked with public keys (jwksUrl or jwksFile); a shared secret is for HS256, HS384 and HS512'
    say('algorithms', what, listNames(misfits))
  }
  if (jwksUrl !== '' && !isSafeUrl(jwksUrl)) {
    say('jwksUrl', 'must be an https:// URL without a user or a password; http:// is for loopback addresses alone', '(not shown)')
  }
  const secret = env[secretEnv]
  if (secret && Buffer.byteLength(secret) < sharedSecretBytesMin) {
    say('secretEnv', `names a secret that is too short; ${sharedSecretBytesMin} bytes or more are needed`, quote(secretEnv))
  }
  return [...findings, ...checkVariable(secretEnv, [...path, 'secretEnv'], env)]
} // prettier-ignore

function isSafeUrl(text: string): boolean {
  if (!URL.canParse(text)) return false
  const { protocol, hostname, username, password } = new URL(text)
  if (username !== '' || password !== '') return false
  return protocol === 'https:' || /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(hostname)
}

const checkTenants = ({ tenants }: Draft): Finding[] =>
  Object.keys(tenants)
    .filter((name) => !tenantPattern.test(name))
    .map((name) =>
      wrongKey(
        ['tenants', name],
        "can't be the name of a tenant; 1 to 100 letters, digits, `_`, `.`, `:`, `@` or `-`",
      ),
    )

/** The public names that are known before the first instance answers. */
export function listModels({ models, upstreams }: Draft): string[] {
  return [
    ...new Set([...models.map(({ name }) => name), ...upstreams.flatMap((up) => Object.keys(up.models))]),
  ]
}

/** An upstream without a list of models is asked for it at run time, so any name may turn out to be known. */
const hasOpenUpstream = ({ upstreams }: Draft) => upstreams.some((up) => Object.keys(up.models).length === 0)

function checkRouting(draft: Draft): Finding[] {
  const { aliases, fallbacks, policies } = draft.routing
  const models = listModels(draft)
  const isOpen = hasOpenUpstream(draft)

  const judgeModel = (name: string): string | null => {
    if (models.includes(name)) return null
    if (Object.hasOwn(aliases, name)) return `is an alias; name the model itself`
    if (isOpen) return null
    const meant = suggest(name, models)
    return meant === null
      ? `is not a model; there are ${listNames(models)}`
      : `is not a model; did you mean ${quote(meant)}?`
  }
  const judgeAlias = (alias: string): string | null => {
    const seen = [alias]
    let target = aliases[alias]!
    while (!models.includes(target) && Object.hasOwn(aliases, target)) {
      if (seen.includes(target)) return `leads in a circle: ${[...seen, target].map(quote).join(' -> ')}`
      seen.push(target)
      target = aliases[target]!
    }
    if (target !== aliases[alias]) return null
    return judgeModel(target)
  }

  const wrongAliases = Object.entries(aliases).flatMap(([alias, target]) => {
    if (models.includes(alias)) {
      return [wrongKey(['routing', 'aliases', alias], 'is the name of a model; an alias needs a name of its own')]
    }
    const what = judgeAlias(alias)
    return what === null ? [] : [wrong(['routing', 'aliases', alias], what, quote(target))]
  })
  const wrongPolicies = Object.keys(policies).flatMap((model) => {
    const what = judgeModel(model)
    return what === null ? [] : [wrongKey(['routing', 'policies', model], what)]
  })
  const wrongFallbacks = Object.entries(fallbacks).flatMap(([model, targets]) => {
    const key = ['routing', 'fallbacks', model]
    const what = judgeModel(model)
    return [
      ...(what === null ? [] : [wrongKey(key, what)]),
      ...targets.flatMap((target, at) => {
        const mistake = target === model ? 'is the model itself' : judgeModel(target)
        return mistake === null ? [] : [wrong([...key, at], mistake, quote(target))]
      }),
      ...repeated(targets).map(({ at, name }) => wrong([...key, at], 'is listed twice', quote(name))),
    ]
  })
  return [...wrongAliases, ...wrongPolicies, ...wrongFallbacks]
} // prettier-ignore

/** The first knob must not be larger than the second. */
const pairs: readonly [section: 'server' | 'health', small: string, large: string][] = [
  ['server', 'headersTimeoutMs', 'requestTimeoutMs'],
  ['health', 'restartDelayMs', 'restartDelayMaxMs'],
]

function checkPairs(draft: Draft): Finding[] {
  return pairs.flatMap(([section, small, large]) => {
    const values = draft[section] as Record<string, number>
    if (values[small]! <= values[large]!) return []
    const what = `must not be larger than ${section}.${large}, which is ${values[large]}`
    return [wrong([section, small], what, String(values[small]))]
  })
}

/** Whether `require` was written alone: it is the default too, and then means nothing by itself, as `validate --print` shows. */
function hasForgottenAuthority(given: Given): boolean {
  const { tls } = (given['server'] ?? {}) as { tls?: { clientCert?: unknown; clientCaFile?: unknown } | null }
  return tls?.clientCert === 'require' && tls.clientCaFile === undefined
}

/** A certificate is of no use without its key, and nothing of it without the certificate. */
function checkTls({ server: { tls } }: Draft, given: Given): Finding[] {
  if (hasForgottenAuthority(given)) {
    return [wrong(['server', 'tls', 'clientCert'], 'asks nobody for a certificate without server.tls.clientCaFile; name the file of those who sign them, or leave clientCert out', quote(tls.clientCert))]
  }
  if (tls.certFile === '' && (tls.keyFile !== '' || tls.clientCaFile !== '')) {
    return [wrong(['server', 'tls', 'certFile'], 'is missing; without a certificate the server speaks plain HTTP')]
  }
  if (tls.certFile !== '' && tls.keyFile === '') {
    return [wrong(['server', 'tls', 'keyFile'], 'is missing; name the private key of server.tls.certFile')]
  }
  return []
} // prettier-ignore

/** Everything that is wrong between the knobs of a draft that its schema allows. `given`: without the defaults. */
export function checkConfig(draft: Draft, given: Given, env: Env): Finding[] {
  if (draft.models.length === 0 && draft.upstreams.length === 0) {
    const what = 'is empty and so is upstreams: nothing would answer; name a model or an upstream'
    return [wrong(['models'], what)]
  }
  return [
    ...checkNames(draft),
    ...checkUpstreams(draft, env),
    ...checkVariables(draft, env),
    ...checkIssuers(draft, env),
    ...checkTenants(draft),
    ...checkRouting(draft),
    ...checkPairs(draft),
    ...checkTls(draft, given),
  ]
}
