import { strict as assert } from 'node:assert'
import crypto from 'node:crypto'
import { Socket } from 'node:net'
import { syncBuiltinESMExports } from 'node:module'
import { describe, it, mock } from 'node:test'
import { drawKey, hashKey, isSame, readKeyId } from '../../../src/gateway/auth/key-text.ts'
import { StoreUnavailable } from '../../../src/storage/store.ts'
import { TestAccess } from '../../helpers/access.ts'
import { ManualClock } from '../../helpers/clock.ts'

describe('keys', () => {
  it('lets the holder of a key in, and answers at once from then on', async () => {
    await using access = await TestAccess.open()
    const { key, text } = await access.makeKey({ roles: ['inference', 'read'], limits: { requestsPerMinute: 5, tokensPerMinute: 0, concurrentMax: 0 } }) // prettier-ignore
    assert.match(text, /^sk-agm-[0-9A-Za-z]{12}-[0-9A-Za-z]{51}$/)
    const caller = await access.identify(text)
    assert.equal(caller.tenant, 'acme')
    assert.equal(caller.keyId, key.id)
    assert.deepEqual([...caller.roles], ['inference', 'read'])
    assert.equal(caller.limits?.requestsPerMinute, 5)
    const again = access.parts.gate.identify({ headers: { 'x-api-key': text } })
    assert.equal(again, caller, 'the same object, and no promise')
  })

  it('keeps only a keyed hash of it', async () => {
    await using access = await TestAccess.open()
    const { key, text } = await access.makeKey()
    const stored = await access.store.access.getKey(key.id)
    const secret = text.split('-')[3]!
    assert.ok(!JSON.stringify(stored).includes(secret))
    assert.ok(!stored!.hash.includes(crypto.hash('sha256', text, 'hex')), 'not a plain hash either')
    assert.notEqual(hashKey('secret a', text).split(':')[1], hashKey('secret b', text).split(':')[1])
  })

  const cases: [name: string, spoil: (text: string) => string][] = [
    ['another secret', (text) => `${text.slice(0, 20)}${'A'.repeat(51)}`],
    ['one letter changed', (text) => `${text.slice(0, -20)}${text.at(-20) === 'x' ? 'y' : 'x'}${text.slice(-19)}`],
    ['a changed mark', (text) => `${text.slice(0, -1)}${text.endsWith('x') ? 'y' : 'x'}`],
    ['another id', (text) => `sk-agm-${'0'.repeat(12)}-${text.slice(20)}`],
    ['cut short', (text) => text.slice(0, -1)],
    ['longer', (text) => `${text}A`],
    ['an id that is SQL', (text) => `sk-agm-' OR 1=1 --${text.slice(19)}`],
    ['nothing but the prefix', () => 'sk-agm-'],
    ['another sort of key', () => 'sk-proj-abcdef'],
    ['a NUL inside', (text) => `${text.slice(0, 30)}\0${text.slice(31)}`],
  ] // prettier-ignore
  for (const [name, spoil] of cases) {
    it(`refuses a key: ${name}`, async () => {
      await using access = await TestAccess.open()
      const { text } = await access.makeKey()
      const getKey = mock.method(access.store.access, 'getKey')
      const error = await access.refusal(spoil(text))
      assert.equal(error.status, 401)
      assert.match(error.headers?.['www-authenticate'] ?? '', /^Bearer realm="open-autoglm", error="invalid_token"/)
      const said = error.message + JSON.stringify(error.headers)
      assert.ok(!said.includes(text.slice(-20)) && !said.includes(spoil(text).slice(-20)), said)
      assert.equal(getKey.mock.callCount(), 0, 'the storage is not asked for what was made up')
    }) // prettier-ignore
  }

  it('asks for a key where none is shown, and for one where two are', async () => {
    await using access = await TestAccess.open()
    const refused = (headers: Record<string, string>) => {
      try {
        void access.parts.gate.identify({ headers })
      } catch (error) {
        return error as { code: string; headers: Record<string, string>; message: string }
      }
      throw new Error('it was let in')
    }
    const none = refused({})
    assert.equal(none.code, 'unauthorized')
    assert.equal(none.headers['www-authenticate'], 'Bearer realm="open-autoglm"', 'RFC 6750: no error code')
    assert.equal(refused({ authorization: 'Bearer ' }).code, 'unauthorized')
    assert.match(refused({ authorization: 'Basic dXNlcjpwYXNz' }).message, /word Bearer/)
    assert.match(refused({ authorization: `Bearer ${'a'.repeat(8_193)}` }).message, /at most 8192/)
    const { text } = await access.makeKey()
    const caller = await access.parts.gate.identify({ headers: { authorization: `bearer  ${text}` } })
    assert.equal(caller.tenant, 'acme', 'the name of the scheme is the same in any case')
  })

  it('ends with the time of the key, also for those who were let in before', async () => {
    const clock = new ManualClock()
    await using access = await TestAccess.open({}, { clock })
    const { text } = await access.makeKey({ expiresAtMs: clock.wallMs() + 1_000 })
    await access.identify(text)
    clock.advance(999)
    assert.equal((await access.identify(text)).tenant, 'acme')
    clock.advance(1)
    const error = await access.refusal(text)
    assert.match(error.message, /expired/)
  })

  it('counts for its own request alone, whatever the connection has shown before', async () => {
    await using access = await TestAccess.open()
    const one = await access.makeKey({ tenant: 'one' })
    const two = await access.makeKey({ tenant: 'two' })
    const socket = new Socket()
    const show = async (text: string) =>
      access.parts.gate.identify({ headers: { authorization: `Bearer ${text}` }, socket })
    for (const _ of [1, 2]) {
      assert.equal((await show(one.text)).tenant, 'one')
      assert.equal((await show(two.text)).tenant, 'two')
      await assert.rejects(show(`${one.text}x`), { code: 'unauthorized' })
    }
    assert.equal((await show(one.text)).tenant, 'one')
    await access.parts.keys.revoke(one.key.id)
    await access.parts.watch.refresh()
    await assert.rejects(show(one.text), /revoked/)
    await assert.rejects(async () => access.parts.gate.identify({ headers: {}, socket }), {
      code: 'unauthorized',
    })
  })

  it('ends at once when it is revoked here', async () => {
    await using access = await TestAccess.open()
    const { key, text } = await access.makeKey()
    const other = await access.makeKey()
    await access.identify(text)
    const kept = await access.identify(other.text)
    await access.parts.keys.revoke(key.id)
    await access.parts.watch.refresh()
    assert.match((await access.refusal(text)).message, /revoked/)
    assert.equal(access.parts.gate.identify({ headers: { 'x-api-key': other.text } }), kept, 'nobody else waits')
  }) // prettier-ignore

  it('keeps nothing that was read before a change', async () => {
    const clock = new ManualClock()
    await using access = await TestAccess.open({}, { clock })
    const { key, text } = await access.makeKey()
    const read = Promise.withResolvers<void>()
    const go = Promise.withResolvers<void>()
    const getKey = (id: string) => original.call(access.store.access, id)
    const original = Reflect.get(access.store.access, 'getKey')
    mock.method(access.store.access, 'getKey', async (id: string) => {
      const row = await getKey(id)
      read.resolve()
      await go.promise
      return row
    })
    const looking = access.identify(text)
    await read.promise
    await access.parts.keys.revoke(key.id)
    await access.parts.watch.refresh()
    mock.restoreAll()
    assert.match((await access.refusal(text)).message, /revoked/, 'nobody waits for the look of before')
    go.resolve()
    await looking
    // The refusal is forgotten by now: the row is looked at again.
    clock.advance(5_000)
    await access.parts.watch.refresh()
    assert.match((await access.refusal(text)).message, /revoked/)
  })

  it('refuses nobody for long by what was read before a change', async () => {
    await using access = await TestAccess.open()
    const { text } = await access.makeKey()
    const read = Promise.withResolvers<void>()
    const go = Promise.withResolvers<void>()
    const early = mock.method(access.store.access, 'getKey', async () => {
      read.resolve()
      await go.promise
      return null
    })
    const refusal = access.refusal(text)
    await read.promise
    early.mock.restore()
    await access.makeKey()
    go.resolve()
    assert.match((await refusal).message, /not known/)
    assert.equal((await access.identify(text)).tenant, 'acme')
  })

  it('is good with the limits of an older or a newer version', async () => {
    await using access = await TestAccess.open()
    const limits = { requestsPerMinute: 5, tokensPerMinute: 0, concurrentMax: 0 }
    for (const stored of ['{"requestsPerMinute":5}', JSON.stringify({ ...limits, laterKnob: 1 })]) {
      const { key, text } = await access.makeKey()
      const row = mock.method(access.store.access, 'getKey', () =>
        Promise.resolve({ ...key, limits: stored }),
      )
      assert.deepEqual((await access.identify(text)).limits, limits)
      row.mock.restore()
    }
  })

  it('looks once for many who show the same, good or bad', async () => {
    const clock = new ManualClock()
    await using access = await TestAccess.open({}, { clock })
    const { key, text } = await access.makeKey()
    const getKey = mock.method(access.store.access, 'getKey')
    await Promise.all(Array.from({ length: 50 }, () => access.identify(text)))
    assert.equal(getKey.mock.callCount(), 1)
    await access.parts.keys.revoke(key.id)
    await access.parts.watch.refresh()
    for (let i = 0; i < 50; i += 1) await access.refusal(text)
    assert.ok(getKey.mock.callCount() <= 3, `${getKey.mock.callCount()} looks`)
  })

  it('lets those in who are known while the storage is away, and asks others to come again', async () => {
    await using access = await TestAccess.open()
    const known = await access.makeKey()
    const unknown = await access.makeKey()
    await access.identify(known.text)
    const away = () => Promise.reject(new StoreUnavailable('away'))
    mock.method(access.store.access, 'getKey', away)
    mock.method(access.store.access, 'revision', away)
    await access.parts.watch.refresh()
    assert.equal((await access.identify(known.text)).tenant, 'acme')
    const error = await access.refusal(unknown.text)
    assert.equal(error.code, 'storage_unavailable')
    assert.ok(error.retryAfterMs)
    assert.equal((await access.refusal(unknown.text)).code, 'storage_unavailable', 'and is not remembered')
    assert.equal(access.log.filter((line) => line.includes('not seen until')).length, 1, 'told once')
    mock.restoreAll()
    assert.equal((await access.identify(unknown.text)).tenant, 'acme')
  })

  it('catches up on what was revoked while the storage was away', async () => {
    await using access = await TestAccess.open()
    const { key, text } = await access.makeKey()
    await access.identify(text)
    const away = mock.method(access.store.access, 'revision', () => Promise.reject(new StoreUnavailable('away')))
    await access.parts.keys.revoke(key.id)
    await access.parts.watch.refresh()
    assert.equal((await access.identify(text)).tenant, 'acme', 'it can not know')
    away.mock.restore()
    await access.parts.watch.refresh()
    assert.match((await access.refusal(text)).message, /revoked/)
  }) // prettier-ignore

  it('is told from a key made under another secret', async () => {
    await using access = await TestAccess.open()
    const { text } = await access.makeKey()
    const env = { KEY_SECRET: 'x'.repeat(32) }
    const auth = { keySecretEnv: 'KEY_SECRET' }
    await using other = await TestAccess.open({ auth }, { store: access.store, env })
    assert.equal((await other.refusal(text)).status, 401)
    assert.ok(other.log.some((line) => line.includes('another secret')))
    const { text: second } = await other.makeKey()
    assert.equal((await other.identify(second)).tenant, 'acme')
    await assert.rejects(
      TestAccess.open({ auth }, { store: access.store, env: { KEY_SECRET: 'short' } }),
      /32 bytes or more/,
    )
  })

  it('is refused when what is stored is not its hash, even if it bears the mark', async () => {
    await using access = await TestAccess.open()
    const [secret] = await access.store.access.listSecrets('key-hash')
    const { id, text } = drawKey(secret!.secret)
    const row = { ...{ id, tenant: 'acme', name: '', roles: ['admin'], limits: null }, createdAtMs: 0, expiresAtMs: null, revokedAtMs: null }
    const hash = hashKey(secret!.secret, `${text}?`)
    await access.store.access.insertKey({ ...row, hash }, { keysMax: 9, endedBeforeMs: 0 })
    assert.match((await access.refusal(text)).message, /not known/)
  }) // prettier-ignore

  it('says that there is no key yet', async () => {
    await using access = await TestAccess.open()
    assert.ok(access.log.some((line) => line.includes('key create --direct --tenant default')))
  })

  it('lets an admin act for a tenant, and nobody else', async () => {
    await using access = await TestAccess.open()
    const admin = await access.makeKey({ roles: ['admin'] })
    const plain = await access.makeKey()
    const headers = { 'x-autoglm-tenant': 'other' }
    assert.equal((await access.identify(admin.text, headers)).tenant, 'other')
    assert.equal((await access.identify(admin.text)).tenant, 'acme')
    assert.equal((await access.identify(plain.text, { 'x-autoglm-tenant': 'acme' })).tenant, 'acme')
    const error = await access.refusal(plain.text, headers)
    assert.equal(error.code, 'forbidden')
    assert.match(error.headers?.['www-authenticate'] ?? '', /insufficient_scope/)
    assert.equal((await access.refusal(admin.text, { 'x-autoglm-tenant': 'a b' })).code, 'invalid_request')
  })
})

describe('the text of a key', () => {
  it('is made of letters and digits alone, and never twice the same', () => {
    const keys = Array.from({ length: 200 }, () => drawKey('secret'))
    assert.equal(new Set(keys.map(({ id }) => id)).size, 200)
    assert.equal(new Set(keys.map(({ text }) => text)).size, 200)
    for (const { id, text } of keys) assert.equal(readKeyId('secret', text), id)
    assert.equal(readKeyId('another secret', keys[0]!.text), null)
  })

  it('is compared in constant time', () => {
    const compare = mock.method(crypto, 'timingSafeEqual')
    syncBuiltinESMExports()
    assert.equal(isSame('abc', 'abc'), true)
    assert.equal(isSame('abc', 'abd'), false)
    assert.equal(compare.mock.callCount(), 2)
    assert.equal(isSame('abc', 'abcd'), false)
    const { text } = drawKey('secret')
    readKeyId('secret', text)
    assert.equal(compare.mock.callCount(), 3, 'the mark too')
    compare.mock.restore()
    syncBuiltinESMExports()
  })
})
