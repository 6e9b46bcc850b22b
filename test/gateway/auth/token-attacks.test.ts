import { strict as assert } from 'node:assert'
import { createHmac, createPublicKey } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { base64url, exportSPKI, importJWK, SignJWT, type CryptoKey, type JWK } from 'jose'
import { TestAccess } from '../../helpers/access.ts'
import { ManualClock } from '../../helpers/clock.ts'
import {
  goodClaims,
  issuerName,
  KeyServer,
  makeIssuerKey,
  sign,
  type IssuerKey,
} from '../../helpers/issuer.ts'

const encode = (value: unknown) => base64url.encode(JSON.stringify(value))
const forge = (header: object, claims: object, signature = '') =>
  `${encode(header)}.${encode(claims)}.${signature}`

describe('attacks on tokens', () => {
  const clock = new ManualClock()
  const hmacSecret = 'a shared secret that is long enough for HS256'
  let rsa: IssuerKey
  let ec: IssuerKey
  let stranger: IssuerKey
  let keys: KeyServer
  let foreign: KeyServer
  let access: TestAccess

  before(async () => {
    rsa = await makeIssuerKey('RS256', 'rsa-1')
    ec = await makeIssuerKey('ES256', 'ec-1')
    stranger = await makeIssuerKey('RS256', 'rsa-1')
    keys = await KeyServer.start([rsa.publicJwk, ec.publicJwk])
    foreign = await KeyServer.start([stranger.publicJwk])
    const more = { audiences: ['api', 'web'], leewayMs: 10_000 }
    const issuers = [
      { issuer: issuerName, algorithms: ['RS256'], jwksUrl: keys.url, ...more },
      { issuer: 'shared', algorithms: ['HS256'], secretEnv: 'SHARED', rolesMax: ['inference', 'admin'], ...more },
    ]
    access = await TestAccess.open({ auth: { issuers } }, { clock, env: { SHARED: hmacSecret } })
  }) // prettier-ignore
  after(async () => {
    await access[Symbol.asyncDispose]()
    await keys[Symbol.asyncDispose]()
    await foreign[Symbol.asyncDispose]()
  })

  const hs256 = (claims: object, secret: string | Uint8Array, header: object = {}) => {
    const body = `${encode({ alg: 'HS256', typ: 'JWT', ...header })}.${encode(claims)}`
    return `${body}.${createHmac('sha256', secret).update(body).digest('base64url')}`
  }
  const claims = (more: object = {}) => ({ ...goodClaims(clock), ...more })
  const now = () => Math.floor(clock.wallMs() / 1_000)
  const good = (more: object = {}, header: Record<string, unknown> = {}) => sign(rsa, claims(more), header)

  it('takes good tokens, so that the refusals below mean something', async () => {
    const caller = await access.identify(await good())
    assert.equal(caller.tenant, 'acme')
    assert.equal(caller.keyId, null)
    assert.equal(caller.name, `${issuerName} user-1`)
    assert.deepEqual([...caller.roles], ['inference'])
    const shared = hs256(claims({ iss: 'shared' }), hmacSecret)
    assert.equal((await access.identify(shared)).tenant, 'acme')
    assert.equal((await access.identify(await good({ aud: ['other', 'web'] }))).tenant, 'acme')
    assert.equal((await access.identify(await good({}, { typ: 'at+jwt' }))).tenant, 'acme')
  })

  const table: [name: string, make: () => string | Promise<string>, says: RegExp][] = [
    ['alg none', () => forge({ alg: 'none' }, claims()), /does not sign in this way/],
    ['alg NONE', () => forge({ alg: 'NONE', kid: 'rsa-1' }, claims()), /does not sign in this way/],
    ['no alg', () => forge({ typ: 'JWT' }, claims()), /does not sign in this way|can be read/],
    ['an alg that is no text', () => forge({ alg: ['RS256'] }, claims()), /does not sign in this way|can be read/],
    ['an empty signature', async () => `${(await good()).split('.').slice(0, 2).join('.')}.`, /signature/],
    ['HS256 with the public key as PEM', async () => {
      const pem = await exportSPKI((await importJWK(rsa.publicJwk, 'RS256')) as CryptoKey)
      return hs256(claims(), pem, { kid: 'rsa-1' })
    }, /does not sign in this way/],
    ['HS256 with the public key as DER', () => {
      const der = createPublicKey({ key: { ...rsa.publicJwk }, format: 'jwk' }).export({ type: 'spki', format: 'der' })
      return hs256(claims(), der, { kid: 'rsa-1' })
    }, /does not sign in this way/],
    ['RS256 from the issuer of a shared secret', () => good({ iss: 'shared' }), /does not sign in this way/],
    ['HS256 with another secret', () => hs256(claims({ iss: 'shared' }), 'b'.repeat(40)), /signature/],
    ['HS256 with an empty secret', () => hs256(claims({ iss: 'shared' }), ''), /signature/],
    ['an algorithm of the same key that is not allowed', () => forge({ alg: 'PS256', kid: 'rsa-1' }, claims(), 'AAAA'), /does not sign in this way/],
    ['a key of another type', () => sign(ec, claims()), /does not sign in this way/],
    ['RS256 by the id of an EC key', () => good({}, { kid: 'ec-1' }), /does not have|signature/],
    ['signed by a stranger under a known kid', () => sign(stranger, claims()), /signature/],
    ['a kid that is a path', () => good({}, { kid: '../../../../dev/null' }), /does not have/],
    ['a kid that is SQL', () => good({}, { kid: "x' UNION SELECT 'secret" }), /does not have/],
    ['a kid that is a number', () => good({}, { kid: 7 }), /./],
    ['a foreign jku', () => sign(stranger, claims(), { jku: foreign.url }), /signature/],
    ['a foreign x5u', () => sign(stranger, claims(), { x5u: foreign.url }), /signature/],
    ['its own key in the header', () => sign(stranger, claims(), { jwk: stranger.publicJwk }), /signature/],
    ['crit', () => forge({ alg: 'RS256', kid: 'rsa-1', crit: ['exp'], exp: 1 }, claims(), 'AAAA'), /not understood/],
    ['crit with b64', () => forge({ alg: 'RS256', kid: 'rsa-1', crit: ['b64'], b64: false }, claims(), 'AAAA'), /not understood/],
    ['an empty crit', () => forge({ alg: 'RS256', kid: 'rsa-1', crit: [] }, claims(), 'AAAA'), /not understood/],
    ['a token for logging out', () => good({}, { typ: 'logout+jwt' }), /another type/],
    ['expired', () => good({ exp: now() - 11 }), /expired/],
    ['without an end', () => good({ exp: undefined }), /no time at which/],
    ['an end that is no number', () => good({ exp: '9999999999' }), /./],
    ['not yet valid', () => good({ nbf: now() + 60 }), /not valid yet/],
    ['issued in time to come', () => good({ iat: now() + 60 }), /issued/],
    ['without a time of issue', () => good({ iat: undefined }), /issued/],
    ['too old, though not expired', () => good({ iat: now() - 86_400 - 11 }), /too old/],
    ['for another audience', () => good({ aud: 'somebody' }), /another audience/],
    ['for no audience', () => good({ aud: undefined }), /another audience/],
    ['for an audience whose name begins alike', () => good({ aud: 'api.evil' }), /another audience/],
    ['of another issuer', () => good({ iss: 'https://evil.example.com/' }), /not trusted/],
    ['of an issuer with one sign more', () => good({ iss: `${issuerName}/` }), /not trusted/],
    ['of an issuer that is a list', () => good({ iss: [issuerName] as unknown as string }), /not trusted|can be read/],
    ['of this server, signed by another', () => good({ iss: 'open-autoglm', aud: 'open-autoglm', key: 'k' }), /does not sign in this way/],
    ['of this server, with a made-up key', () => sign(ec, claims({ iss: 'open-autoglm', aud: 'open-autoglm' })), /does not have|another type/],
    ['a tenant that is a number', () => good({ tenant: 7 }), /names the tenant/],
    ['a tenant that is a list', () => good({ tenant: ['acme'] }), /names the tenant/],
    ['a tenant that is a path', () => good({ tenant: '../other' }), /names the tenant/],
    ['no tenant', () => good({ tenant: undefined }), /names the tenant/],
    ['an empty tenant', () => good({ tenant: '' }), /names the tenant/],
    ['roles that are an object', () => good({ roles: { admin: true } }), /lists the roles/],
    ['limits that are a text', () => good({ limits: 'none' }), /holds the limits/],
    ['a limit that is negative', () => good({ limits: { requestsPerMinute: -1 } }), /holds the limits/],
    ['a limit of another name', () => good({ limits: { requests: 5 } }), /holds the limits/],
    ['a huge token', () => good({ padding: 'x'.repeat(9_000) }), /at most 8192/],
    ['two dots and nothing else', () => '..', /neither a key nor a token/],
    ['a token within a token', async () => forge({ alg: 'RS256', cty: 'JWT' }, { nested: await good() }), /not trusted|neither/],
    ['a payload that is no JSON', () => `${encode({ alg: 'RS256' })}.AAAA.AAAA`, /neither a key nor a token/],
    ['an encrypted one', () => 'eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..AAAAAAAAAAAAAAAA.AA.AAAAAAAAAAAAAAAAAAAAAA', /neither a key nor a token/],
    ['signs that are no base64url', async () => `${await good()}\u0000`, /./],
  ] // prettier-ignore
  for (const [name, make, says] of table) {
    it(`refuses a token: ${name}`, async () => {
      const token = await make()
      const error = await access.refusal(token)
      assert.equal(error.code, 'unauthorized', `${error.code}: ${error.message}`)
      assert.match(error.message, says)
      assert.match(error.headers?.['www-authenticate'] ?? '', /^Bearer realm="[\w-]+", error="invalid_token", error_description="[^"\\]+"$/)
      const parts = token.split('.').filter((part) => part.length > 8)
      for (const part of parts) assert.ok(!error.message.includes(part), 'the credential is not repeated')
      assert.ok(!access.log.some((line) => parts.some((part) => line.includes(part))), 'not in the log either')
    }) // prettier-ignore
  }

  it('has asked nobody whom a token named', () => {
    assert.equal(foreign.asked, 0)
  })

  it('gives no more roles than the issuer may give', async () => {
    const caller = await access.identify(await good({ roles: 'admin inference tasks superuser __proto__' }))
    assert.deepEqual([...caller.roles], ['inference', 'tasks'])
    const shared = hs256(claims({ iss: 'shared', roles: ['admin', 'tasks'] }), hmacSecret)
    assert.deepEqual([...(await access.identify(shared)).roles], ['admin'])
    const none = await access.identify(await good({ roles: [] }))
    assert.equal(none.roles.size, 0)
  })

  it('is verified once, and until it ends', async () => {
    const token = await good({ exp: now() + 20 })
    const caller = await access.identify(token)
    const again = access.parts.gate.identify({ headers: { authorization: `Bearer ${token}` } })
    assert.equal(again, caller)
    clock.advance(29_000)
    assert.equal((await access.identify(token)).tenant, 'acme', 'within the leeway')
    clock.advance(1_000)
    assert.match((await access.refusal(token)).message, /expired/)
  })

  it('takes the limits of a token', async () => {
    const caller = await access.identify(await good({ limits: { tokensPerMinute: 9 } }))
    assert.deepEqual(caller.limits, { requestsPerMinute: 0, tokensPerMinute: 9, concurrentMax: 0 })
  })

  it('lets a token with two letters swapped in no part of it through', async () => {
    const token = await good()
    for (let at = 0; at < token.length; at += Math.ceil(token.length / 60)) {
      const spoiled = `${token.slice(0, at)}${token[at] === 'A' ? 'B' : 'A'}${token.slice(at + 1)}`
      if (spoiled.split('.').length !== 3) continue
      const error = await access.refusal(spoiled).catch((thrown: unknown) => thrown as Error)
      assert.equal((error as { status?: number }).status, 401, `at ${at}: ${String(error)}`)
    }
  })

  it('knows its own algorithms by the type of the key', async () => {
    // A public key must never become a shared secret, whatever the document of the issuer says.
    const oct: JWK = { kty: 'oct', k: base64url.encode('x'.repeat(32)), kid: 'oct', alg: 'HS256' }
    await using server = await KeyServer.start([oct, rsa.publicJwk])
    const issuer = { issuer: 'mixed', audiences: ['api'], algorithms: ['RS256'], jwksUrl: server.url }
    await using mixed = await TestAccess.open({ auth: { issuers: [issuer] } }, { clock })
    const token = await new SignJWT(claims({ iss: 'mixed' }))
      .setProtectedHeader({ alg: 'HS256', kid: 'oct' })
      .sign(new TextEncoder().encode('x'.repeat(32)))
    assert.match((await mixed.refusal(token)).message, /does not sign in this way/)
    assert.equal((await mixed.identify(await good({ iss: 'mixed' }))).tenant, 'acme')
  })
})
