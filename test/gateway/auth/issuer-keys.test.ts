import { strict as assert } from 'node:assert'
import { mkdtemp, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { TestAccess } from '../../helpers/access.ts'
import { ManualClock } from '../../helpers/clock.ts'
import { goodClaims, issuerName, KeyServer, makeIssuerKey, sign } from '../../helpers/issuer.ts'

const first = await makeIssuerKey('RS256', 'first')
const second = await makeIssuerKey('RS256', 'second')

const trusting = (source: object, more: object = {}) => ({
  auth: {
    issuers: [{ issuer: issuerName, audiences: ['api'], algorithms: ['RS256'], ...source, ...more }],
  },
})
let serial = 0
/** Each is another one, so that none is known from before. */
const fresh = (clock: ManualClock, key = first, header = {}) =>
  sign(key, { ...goodClaims(clock), jti: String((serial += 1)) }, header)

describe('the keys of an issuer behind a URL', () => {
  it('are read with the first token, and once for many', async () => {
    const clock = new ManualClock()
    await using keys = await KeyServer.start([first.publicJwk])
    await using access = await TestAccess.open(trusting({ jwksUrl: keys.url }), { clock })
    assert.equal(keys.asked, 0)
    const tokens = await Promise.all(Array.from({ length: 20 }, () => fresh(clock)))
    await Promise.all(tokens.map((token) => access.identify(token)))
    assert.equal(keys.asked, 1)
  })

  it('are read again when a token names an unknown one, at a bounded rate', async () => {
    const clock = new ManualClock()
    await using keys = await KeyServer.start([first.publicJwk])
    await using access = await TestAccess.open(trusting({ jwksUrl: keys.url }), { clock })
    await access.identify(await fresh(clock))
    clock.advance(10_000)
    keys.keys = [first.publicJwk, second.publicJwk]
    assert.equal((await access.identify(await fresh(clock, second))).tenant, 'acme')
    assert.equal(keys.asked, 2)
    const flood = await Promise.all(
      Array.from({ length: 200 }, (_, n) => fresh(clock, first, { kid: `unknown-${n}` })),
    )
    for (const error of await Promise.all(flood.map((token) => access.refusal(token)))) {
      assert.equal(error.status, 401)
    }
    assert.equal(keys.asked, 2, 'the last read is not 10 s old')
    clock.advance(10_000)
    await Promise.all(flood.map((token) => access.refusal(token)))
    assert.equal(keys.asked, 3, 'one for all of them')
    assert.equal((await access.identify(await fresh(clock))).tenant, 'acme', 'and good ones go on')
  })

  it('stay when the source fails, in whatever way', async () => {
    const clock = new ManualClock()
    await using keys = await KeyServer.start([first.publicJwk])
    await using elsewhere = await KeyServer.start([second.publicJwk])
    await using access = await TestAccess.open(trusting({ jwksUrl: keys.url }), { clock })
    await access.identify(await fresh(clock))
    const failures: NonNullable<KeyServer['answer']>[] = [
      ({ status }) => status(500),
      ({ status }) => status(404),
      ({ status }) => status(302, { location: elsewhere.url }),
      ({ send }) => send('not JSON'),
      ({ send }) => send('{"keys":{}}'),
      ({ send }) => send('[]'),
      ({ send }) => send('null'),
      ({ send }) => send(JSON.stringify({ keys: Array.from({ length: 101 }, () => first.publicJwk) })),
      ({ send }) => send(JSON.stringify({ keys: [{ ...first.publicJwk, d: 'AAAA' }] })),
      ({ send }) => send(`{"keys":[],"more":"${'x'.repeat(300_000)}"}`),
    ]
    for (const [n, failure] of failures.entries()) {
      keys.answer = failure
      clock.advance(601_000)
      const { asked } = keys
      assert.equal((await access.identify(await fresh(clock))).tenant, 'acme', `failure ${n}`)
      assert.match(
        (await access.refusal(await fresh(clock, second))).message,
        /does not have/,
        `failure ${n}`,
      )
      assert.ok(keys.asked > asked, 'it was asked')
    }
    assert.equal(elsewhere.asked, 0, 'a redirect is not followed')
    assert.ok(access.log.some((line) => line.includes('could not be read')))
  })

  it('are asked for again soon while none are known, and the token is not called bad', async () => {
    const clock = new ManualClock()
    await using keys = await KeyServer.start([first.publicJwk])
    await using access = await TestAccess.open(trusting({ jwksUrl: keys.url }), { clock })
    keys.answer = ({ status }) => status(503)
    const token = await fresh(clock)
    const error = await access.refusal(token)
    assert.equal(error.code, 'issuer_unavailable')
    assert.equal(error.status, 503)
    await access.refusal(token)
    assert.equal(keys.asked, 1, 'within a second')
    keys.answer = null
    clock.advance(1_000)
    assert.equal((await access.identify(token)).tenant, 'acme')
  })

  it('are waited for no longer than 5 s', async () => {
    const clock = new ManualClock()
    const asked = Promise.withResolvers<void>()
    await using keys = await KeyServer.start()
    await using access = await TestAccess.open(trusting({ jwksUrl: keys.url }), { clock })
    keys.answer = () => asked.resolve()
    const refusal = access.refusal(await fresh(clock))
    await asked.promise
    clock.advance(5_000)
    assert.equal((await refusal).code, 'issuer_unavailable')
    assert.ok(access.log.some((line) => line.includes('no answer within 5 s')))
  })

  it('take those tokens with them that were verified with a key that is gone', async () => {
    const clock = new ManualClock()
    await using keys = await KeyServer.start([first.publicJwk, second.publicJwk])
    await using access = await TestAccess.open(trusting({ jwksUrl: keys.url }), { clock })
    const token = await fresh(clock, second)
    await access.identify(token)
    keys.keys = [first.publicJwk]
    clock.advance(10_000)
    await access.refusal(await fresh(clock, first, { kid: 'makes it read again' }))
    assert.match((await access.refusal(token)).message, /does not have/)
  })

  it('are missed within eleven minutes when they are gone, though all tokens are known', async () => {
    const clock = new ManualClock()
    await using keys = await KeyServer.start([first.publicJwk, second.publicJwk])
    await using access = await TestAccess.open(trusting({ jwksUrl: keys.url }), { clock })
    const token = await sign(second, { ...goodClaims(clock), exp: Math.floor(clock.wallMs() / 1_000) + 80_000 })
    await access.identify(token)
    keys.keys = [first.publicJwk]
    clock.advance(600_000)
    await access.identify(token)
    assert.equal(keys.asked, 1, 'read every ten minutes')
    clock.advance(60_000)
    await access.identify(token)
    // Read beside the requests: as many of them as it takes.
    let refused: Error | null = null
    while (!refused) {
      await setImmediate()
      refused = await access.identify(token).then(() => null, (error: Error) => error)
    }
    assert.match(refused.message, /does not have/)
    assert.equal(keys.asked, 2)
  }) // prettier-ignore

  it('can hang without keeping the tokens and keys of others waiting', async () => {
    const clock = new ManualClock()
    await using keys = await KeyServer.start()
    keys.answer = () => {}
    await using access = await TestAccess.open(trusting({ jwksUrl: keys.url }), { clock })
    const { text } = await access.makeKey()
    let busy = 0
    const flood: Promise<unknown>[] = []
    for (let round = 0; round < 12; round += 1) {
      for (let i = 0; i < 100; i += 1) {
        const look = access.refusal(await fresh(clock))
        flood.push(look.then(({ code }) => (busy += code === 'issuer_unavailable' ? 1 : 0)))
      }
      await setImmediate()
    }
    assert.equal((await access.identify(text)).tenant, 'acme')
    assert.equal(busy, 1_000, 'all but 200 hear at once that they have to come again')
    clock.advance(5_000)
    await Promise.all(flood)
    assert.equal(busy, 1_200)
    keys.answer = null
    keys.keys = [first.publicJwk]
    assert.equal((await access.identify(await fresh(clock))).tenant, 'acme', 'the places are free again')
  })

  it('must be told apart by a kid where several fit', async () => {
    const clock = new ManualClock()
    await using keys = await KeyServer.start([first.publicJwk, second.publicJwk])
    await using access = await TestAccess.open(trusting({ jwksUrl: keys.url }), { clock })
    const error = await access.refusal(await fresh(clock, first, { kid: undefined }))
    assert.match(error.message, /does not say which key/)
    keys.keys = [first.publicJwk]
    await using alone = await TestAccess.open(trusting({ jwksUrl: keys.url }), { clock })
    assert.equal((await alone.identify(await fresh(clock, first, { kid: undefined }))).tenant, 'acme')
  })
})

describe('the keys of an issuer in a file', () => {
  const write = async (path: string, keys: readonly object[], atMs: number) => {
    await writeFile(path, JSON.stringify({ keys }))
    await utimes(path, atMs / 1_000, atMs / 1_000)
  }

  it('are read again when the file changes, and stay when it is broken', async () => {
    const clock = new ManualClock()
    const folder = await mkdtemp(join(tmpdir(), 'autoglm-jwks-'))
    const path = join(folder, 'jwks.json')
    try {
      await write(path, [first.publicJwk], 1_000)
      await using access = await TestAccess.open(trusting({ jwksFile: path }), { clock })
      assert.equal((await access.identify(await fresh(clock))).tenant, 'acme')
      await write(path, [second.publicJwk], 2_000)
      assert.equal((await access.refusal(await fresh(clock, second))).status, 401, 'looked at once a second')
      clock.advance(1_000)
      assert.equal((await access.identify(await fresh(clock, second))).tenant, 'acme')
      assert.equal((await access.refusal(await fresh(clock))).status, 401)
      await writeFile(path, '{"keys":')
      clock.advance(1_000)
      assert.equal((await access.identify(await fresh(clock, second))).tenant, 'acme')
      await rm(path)
      clock.advance(1_000)
      assert.equal((await access.identify(await fresh(clock, second))).tenant, 'acme')
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  it('are missed within a minute when they are gone, though all tokens are known', async () => {
    const clock = new ManualClock()
    const folder = await mkdtemp(join(tmpdir(), 'autoglm-jwks-'))
    const path = join(folder, 'jwks.json')
    try {
      await write(path, [first.publicJwk, second.publicJwk], 1_000)
      await using access = await TestAccess.open(trusting({ jwksFile: path }), { clock })
      const token = await fresh(clock, second)
      await access.identify(token)
      await write(path, [first.publicJwk], 2_000)
      clock.advance(59_000)
      assert.equal((await access.identify(token)).tenant, 'acme', 'known for so long')
      clock.advance(1_000)
      assert.match((await access.refusal(token)).message, /does not have/)
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  it('must be there at the start', async () => {
    await assert.rejects(TestAccess.open(trusting({ jwksFile: '/nowhere/jwks.json' })), {
      name: 'SetupError',
      message: /auth\.issuers: the keys of "https:\/\/id\.example\.com\/" can't be read from \/nowhere\/jwks\.json/,
    }) // prettier-ignore
  })
})

describe('what a token says', () => {
  it('is found by the names that the configuration gives', async () => {
    const clock = new ManualClock()
    await using keys = await KeyServer.start([first.publicJwk])
    const names = {
      tenantClaim: 'https://example.com/org',
      rolesClaim: 'realm_access.roles',
      limitsClaim: 'quota',
      rolesMax: ['admin', 'read'],
    }
    await using access = await TestAccess.open(trusting({ jwksUrl: keys.url }, names), { clock })
    const claims = {
      ...{ 'https://example.com/org': 'globex', realm_access: { roles: ['read', 'offline_access'] } },
      quota: { concurrentMax: 2 },
    }
    const caller = await access.identify(await sign(first, { ...goodClaims(clock), ...claims }))
    assert.equal(caller.tenant, 'globex')
    assert.deepEqual([...caller.roles], ['read'])
    assert.equal(caller.limits?.concurrentMax, 2)
  })

  it('may be left to the configuration', async () => {
    const clock = new ManualClock()
    await using keys = await KeyServer.start([first.publicJwk])
    const fixed = { tenant: 'partner', roles: ['tasks', 'admin'] }
    await using access = await TestAccess.open(trusting({ jwksUrl: keys.url }, fixed), { clock })
    const { roles: _roles, ...claims } = goodClaims(clock)
    const caller = await access.identify(await sign(first, { ...claims, tenant: 'other' }))
    assert.equal(caller.tenant, 'partner')
    assert.deepEqual([...caller.roles], ['tasks'], 'rolesMax bounds these too')
  })
})
