import { strict as assert } from 'node:assert'
import { after, before, describe, it, mock } from 'node:test'
import {
  createLocalJWKSet,
  decodeJwt,
  decodeProtectedHeader,
  jwtVerify,
  SignJWT,
  type JSONWebKeySet,
} from 'jose'
import { TestAccess } from '../../helpers/access.ts'
import { AccessServer } from '../../helpers/access-server.ts'
import { ManualClock } from '../../helpers/clock.ts'

describe('the routes of authentication', () => {
  const clock = new ManualClock()
  let access: TestAccess
  let server: AccessServer
  let admin: string

  before(async () => {
    const tenants = { fixed: { weight: 7 }, default: { requestsPerMinute: 60 } }
    access = await TestAccess.open({ tenants }, { clock })
    server = await AccessServer.start(access, clock)
    admin = (await access.makeKey({ roles: ['admin'], name: 'root' })).text
  })
  after(async () => {
    await server[Symbol.asyncDispose]()
    await access[Symbol.asyncDispose]()
  })

  it('says in a header what is missing', async () => {
    const none = await server.send(null, 'GET', '/v1/admin/keys')
    assert.equal(none.status, 401)
    assert.equal(none.headers.get('www-authenticate'), 'Bearer realm="open-autoglm"')
    assert.equal(none.body.error.code, 'unauthorized')
    const bad = await server.send('sk-agm-nonsense', 'GET', '/v1/admin/keys')
    assert.equal(bad.status, 401)
    assert.match(bad.headers.get('www-authenticate') ?? '', /error="invalid_token"/)
    const { text } = await access.makeKey()
    const poor = await server.send(text, 'GET', '/v1/admin/keys')
    assert.equal(poor.status, 403)
    assert.match(poor.body.error.message, /`admin`/)
    assert.match(poor.headers.get('www-authenticate') ?? '', /error="insufficient_scope", scope="admin"/)
  })

  it('makes, lists, shows and revokes keys', async () => {
    const body = { tenant: 'shop', name: 'ci', roles: ['read'], limits: { requestsPerMinute: 9 }, expires_at: clock.wallMs() / 1_000 + 60 }
    const made = await server.send(admin, 'POST', '/v1/admin/keys', body)
    assert.equal(made.status, 200)
    assert.equal(made.headers.get('cache-control'), 'no-store')
    const { key, ...shown } = made.body
    assert.match(key, /^sk-agm-/)
    assert.equal(shown.status, 'active')
    assert.equal(shown.limits?.['requestsPerMinute'], 9)
    assert.deepEqual((await server.send(admin, 'GET', `/v1/admin/keys/${shown.id}`)).body, shown)
    const list = await server.send(admin, 'GET', '/v1/admin/keys?tenant=shop&limit=1')
    assert.deepEqual(list.body.data, [shown])
    assert.ok(!JSON.stringify(list.body).includes(key))
    assert.equal((await access.identify(key)).limits?.requestsPerMinute, 9)
    const revoked = await server.send(admin, 'POST', `/v1/admin/keys/${shown.id}/revoke`)
    assert.equal(revoked.body.status, 'revoked')
    assert.match((await access.refusal(key)).message, /revoked/, 'at once on the server that said so')
    assert.equal((await server.send(admin, 'GET', '/v1/admin/keys/000000000000')).body.error.code, 'key_not_found')
    assert.equal((await server.send(admin, 'POST', '/v1/admin/keys/x%27y/revoke')).body.error.code, 'key_not_found')
  }) // prettier-ignore

  it('lists and revokes a key whose limits can not be read, and lets nobody in with it', async () => {
    const broken = await access.makeKey({ tenant: 'broken' })
    const row = { ...broken.key, limits: '{"requestsPerMinute":' }
    const inStorage = access.store.access
    const reads = [
      mock.method(inStorage, 'getKey', () => Promise.resolve(row)),
      mock.method(inStorage, 'listKeys', () => Promise.resolve([row])),
      mock.method(inStorage, 'revokeKey', () => Promise.resolve({ ...row, revokedAtMs: 1 })),
    ]
    const used = await server.send(broken.text, 'GET', '/v1/admin/keys')
    const list = await server.send(admin, 'GET', '/v1/admin/keys?tenant=broken')
    const revoked = await server.send(admin, 'POST', `/v1/admin/keys/${row.id}/revoke`)
    for (const { mock } of reads) mock.restore()
    assert.equal(used.status, 500)
    assert.deepEqual([list.status, list.body.data.map(({ id }) => id)], [200, [row.id]])
    assert.deepEqual([revoked.status, revoked.body.status, revoked.body.limits], [200, 'revoked', null])
  })

  it('turns pages of keys', async () => {
    for (let i = 0; i < 5; i += 1) await access.makeKey({ tenant: 'paged', name: String(i) })
    const names: string[] = []
    for (let after = '', more = true; more;) {
      const { body } = await server.send(admin, 'GET', `/v1/admin/keys?tenant=paged&limit=2${after}`)
      names.push(...body.data.map(({ name }) => name))
      more = body.has_more
      after = `&after=${body.last_id}`
    }
    assert.deepEqual(names.sort(), ['0', '1', '2', '3', '4'])
  })

  const badKeys: [body: object, param: string][] = [
    [{}, 'tenant'],
    [{ tenant: 'a b' }, 'tenant'],
    [{ tenant: 'a', roles: ['root'] }, 'roles[0]'],
    [{ tenant: 'a', roles: [] }, 'roles'],
    [{ tenant: 'a', name: 'x\n' }, 'name'],
    [{ tenant: 'a', expires_at: 1 }, 'expires_at'],
    [{ tenant: 'a', expires_at: 'soon' }, 'expires_at'],
    [{ tenant: 'a', limits: { requestsPerMinute: -1 } }, 'limits.requestsPerMinute'],
    [{ tenant: 'a', limits: { requests: 1 } }, 'limits.requests'],
    [{ tenant: 'a', key: 'my own' }, 'key'],
    [JSON.parse('{"tenant":"a","__proto__":{"roles":["admin"]}}') as object, '__proto__'],
  ]
  for (const [body, param] of badKeys) {
    it(`refuses a key with a mistake in ${param}: ${JSON.stringify(body)}`, async () => {
      const refused = await server.send(admin, 'POST', '/v1/admin/keys', body)
      assert.equal(refused.status, 400)
      assert.equal(refused.body.error.param, param)
    })
  }

  it('sets, shows, lists and forgets tenants', async () => {
    const path = '/v1/admin/tenants/acme'
    assert.equal((await server.send(admin, 'GET', path)).body.error.code, 'tenant_not_found')
    const settings = { weight: 2, models: ['tiny'] }
    const put = await server.send(admin, 'PUT', path, { settings, version: 0 })
    assert.equal(put.status, 200)
    assert.equal(put.body.version, 1)
    assert.equal(put.body.settings['weight'], 2)
    assert.equal(put.body.settings['serviceTier'], 'default', 'with the defaults')
    assert.equal(access.parts.tenants.of('acme').weight, 2, 'in effect at once')
    const stale = await server.send(admin, 'PUT', path, { settings, version: 0 })
    assert.equal(stale.body.error.code, 'conflict')
    const second = await server.send(admin, 'PUT', path, { settings: { weight: 3 } })
    assert.equal(second.body.version, 2)
    assert.deepEqual(access.parts.tenants.of('acme').models, [], 'what is left out is as by default')
    const list = await server.send(admin, 'GET', '/v1/admin/tenants')
    assert.deepEqual(list.body.data.map(({ id, source }) => [id, source]), [['acme', 'stored'], ['default', 'config'], ['fixed', 'config']])
    assert.equal((await server.send(admin, 'DELETE', path)).status, 204)
    assert.equal((await server.send(admin, 'DELETE', path)).status, 404)
    assert.equal(access.parts.tenants.of('acme').requestsPerMinute, 60, 'as `default` again')
  }) // prettier-ignore

  it('leaves a tenant of the configuration file alone', async () => {
    for (const [method, body] of [['PUT', { settings: {} }], ['DELETE', undefined]] as const) {
      const refused = await server.send(admin, method, '/v1/admin/tenants/fixed', body)
      assert.equal(refused.status, 409)
      assert.match(refused.body.error.message, /configuration file/)
    }
    const shown = await server.send(admin, 'GET', '/v1/admin/tenants/fixed')
    assert.equal(shown.body.source, 'config')
    assert.equal(shown.body.settings['weight'], 7)
  }) // prettier-ignore

  const badTenants: [body: object, says: RegExp][] = [
    [{}, /`settings`: is missing/],
    [{ settings: { weight: 0 } }, /`settings.weight`: 0 is not allowed; a number above 0/],
    [{ settings: { weigth: 1 } }, /`settings.weigth`: unknown; did you mean weight/],
    [{ settings: { models: 'tiny' } }, /`settings.models`/],
    [{ settings: { modelLimits: { m: { requestsPerMinute: 'x' } } } }, /settings.modelLimits.m.requestsPerMinute/],
    [{ settings: [] }, /`settings`: a list is not allowed/],
    [{ settings: {}, version: 'x' }, /`version`/],
    [{ weight: 2 }, /`weight` is not a field here/],
  ] // prettier-ignore
  for (const [body, says] of badTenants) {
    it(`refuses the tenant ${JSON.stringify(body)}`, async () => {
      const refused = await server.send(admin, 'PUT', '/v1/admin/tenants/acme', body)
      assert.equal(refused.status, 400)
      assert.match(refused.body.error.message, says)
    })
  }

  it('exchanges a key for a token that others can verify', async () => {
    const { key, text } = await access.makeKey({ roles: ['inference', 'read'] })
    clock.advance(250) // Whole seconds come out whichever part of one it is.
    const made = await server.send(text, 'POST', '/auth/token')
    assert.equal(made.status, 200)
    assert.equal(made.headers.get('cache-control'), 'no-store')
    const { access_token: token, expires_in: seconds, scope } = made.body
    assert.equal(seconds, 900)
    assert.equal(scope, 'inference read')
    const jwks = await server.send(null, 'GET', '/.well-known/jwks.json')
    assert.equal(jwks.status, 200)
    assert.ok(!jwks.body.keys.some((jwk) => 'd' in jwk), 'nothing private')
    const { payload } = await jwtVerify(token, createLocalJWKSet(jwks.body as unknown as JSONWebKeySet), {
      issuer: 'open-autoglm',
      audience: 'open-autoglm',
      currentDate: new Date(clock.wallMs()),
    })
    assert.equal(payload['tenant'], 'acme')
    assert.equal(payload['key'], key.id)
    const caller = await access.identify(token)
    assert.equal(caller.tenant, 'acme')
    assert.equal(caller.keyId, key.id)
    assert.deepEqual([...caller.roles], ['inference', 'read'])
    assert.equal(decodeProtectedHeader(token).typ, 'at+jwt')
  })

  it('narrows the roles and the time of a token, and never widens them', async () => {
    const { text } = await access.makeKey({ roles: ['inference', 'read'], expiresAtMs: clock.wallMs() + 120_000 })
    const narrow = await server.send(text, 'POST', '/auth/token', { roles: ['read', 'admin'], expires_in: 30 })
    assert.equal(narrow.body.scope, 'read')
    assert.equal(narrow.body.expires_in, 30)
    const long = await server.send(text, 'POST', '/auth/token', { expires_in: 86_400 })
    assert.equal(long.body.expires_in, 120, 'as long as its key')
    assert.equal((await server.send(text, 'POST', '/auth/token', { roles: ['admin'] })).status, 403)
    assert.equal((await server.send(text, 'POST', '/auth/token', { expires_in: 0 })).body.error.param, 'expires_in')
    assert.equal((await server.send(text, 'POST', '/auth/token', { tenant: 'other' })).body.error.param, 'tenant')
    const more = await server.send(narrow.body.access_token, 'POST', '/auth/token')
    assert.equal(more.status, 403, 'no token from a token')
  }) // prettier-ignore

  it('ends tokens with their key', async () => {
    const { key, text } = await access.makeKey()
    const { access_token: token } = (await server.send(text, 'POST', '/auth/token')).body
    await access.identify(token)
    await access.parts.keys.revoke(key.id)
    await access.parts.watch.refresh()
    assert.match((await access.refusal(token)).message, /revoked/)
  })

  it('gives a token no more than its key may, whatever it says', async () => {
    const { key: owner } = await access.makeKey({ roles: ['read'] })
    const { kid, key } = await access.parts.tokenKeys.findSigning()
    const now = Math.floor(clock.wallMs() / 1_000)
    const claims = { iss: 'open-autoglm', aud: 'open-autoglm', iat: now, exp: now + 60 }
    const forge = (more: object) =>
      new SignJWT({ ...claims, ...more }).setProtectedHeader({ alg: 'ES256', kid, typ: 'at+jwt' }).sign(key)
    const caller = await access.identify(
      await forge({ key: owner.id, tenant: 'other', roles: ['admin', 'read'] }),
    )
    assert.deepEqual([...caller.roles], ['read'])
    assert.equal(caller.tenant, 'acme', 'that of the key')
    for (const more of [
      { key: '../x' },
      { key: owner.id },
      { key: owner.id, roles: 'admin' },
      { roles: [] },
    ]) {
      assert.equal((await access.refusal(await forge(more))).status, 401, JSON.stringify(more))
    }
    assert.match((await access.refusal(await forge({ key: '0'.repeat(12), roles: [] }))).message, /not known/)
  })

  it('ends tokens in their time', async () => {
    const { text } = await access.makeKey()
    const made = await server.send(text, 'POST', '/auth/token', { expires_in: 5 })
    await access.identify(made.body.access_token)
    clock.advance(5_000)
    assert.match((await access.refusal(made.body.access_token)).message, /expired/)
  })

  it('gives each token a name of its own', async () => {
    const { text } = await access.makeKey()
    const make = async () => decodeJwt((await server.send(text, 'POST', '/auth/token')).body.access_token).jti
    assert.notEqual(await make(), await make())
  })
})
