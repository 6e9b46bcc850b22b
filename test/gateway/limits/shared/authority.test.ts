import { strict as assert } from 'node:assert'
import { after, before, describe, it } from 'node:test'
import { createClient, type RedisClientType } from '@redis/client'
import type { Ask, AskItem, Authority } from '../../../../src/gateway/limits/shared/authority.ts'
import { MemoryAuthority } from '../../../../src/gateway/limits/shared/memory-authority.ts'
import { RedisAuthority } from '../../../../src/gateway/limits/shared/redis-authority.ts'
import { redisSkip, RedisServer } from '../../../helpers/redis.ts'
import { drawSeed, makeRandom } from '../harness.ts'

const bucket = (some: Partial<AskItem & { kind: 'bucket' }> = {}): AskItem => ({
  ...{ kind: 'bucket', key: 'b', capacity: 10, rate: 0.001, debtMax: 100 },
  ...{ spent: 0, spentAgoMs: 0, back: 0, debit: 0, least: 0, need: 0, want: 0 },
  ...some,
})
const needs = (need: number, some = {}) => bucket({ least: 1, need, want: need, ...some })
const slots = (some: Partial<AskItem & { kind: 'slots' }> = {}): AskItem => ({
  ...{ kind: 'slots', key: 's', limit: 5, held: 0, need: 0, want: 0 },
  ...some,
})

/** A clock that only the test moves. */
class Time {
  nowMs = 1_000_000
  now = () => this.nowMs
}

const ask = async (authority: Authority, replica: string, ...items: AskItem[]) => {
  const { results } = await authority.decide({ replica, bye: false, items })
  return results
}
const granted = async (...args: Parameters<typeof ask>) =>
  (await ask(...args)).map((result) => result?.granted)

/** What holds of every authority. */
function promises(name: string, open: () => { authority: Authority; time: Time }) {
  describe(name, () => {
    it('grants what there is, and counts leases as not there', async () => {
      const { authority, time } = open()
      assert.deepEqual(await granted(authority, 'a', needs(4)), [4])
      assert.deepEqual(await granted(authority, 'b', needs(9)), [6])
      time.nowMs += 900
      assert.deepEqual(await granted(authority, 'b', needs(1)), [0], 'not even a whole one has come back')
    })

    it('refills up to what the leases leave, and counts what was not told as spent', async () => {
      const { authority, time } = open()
      await ask(authority, 'a', needs(4))
      time.nowMs += 500
      assert.deepEqual(
        (await ask(authority, 'b', bucket()))[0]?.level,
        6,
        'six and four are all there may be',
      )
      time.nowMs += 500
      assert.deepEqual((await ask(authority, 'b', bucket()))[0]?.level, 6, 'the lease has ended just now')
      time.nowMs += 1_000
      assert.deepEqual((await ask(authority, 'b', bucket()))[0]?.level, 7)
    })

    it('takes back what is given back, never more than was leased', async () => {
      const { authority } = open()
      await ask(authority, 'a', needs(4))
      assert.deepEqual(await ask(authority, 'a', bucket({ back: 3 })), [{ granted: 0, held: 1, level: 9 }])
      assert.deepEqual(await ask(authority, 'a', bucket({ back: 3 })), [{ granted: 0, held: 0, level: 10 }])
    })

    it('does not refill a burst that was spent just now', async () => {
      const { authority, time } = open()
      await ask(authority, 'a', needs(10))
      time.nowMs += 900
      const [result] = await ask(authority, 'a', bucket({ spent: 10 }))
      assert.equal(result?.level, 0, 'the lease was whole until now as far as anybody knew')
    })

    it('refills from the moment at which a lease was spent', async () => {
      const { authority, time } = open()
      await ask(authority, 'a', needs(10))
      time.nowMs += 900
      const [result] = await ask(authority, 'a', bucket({ spent: 10, spentAgoMs: 700 }))
      assert.equal(Math.round((result?.level ?? 0) * 1e9), 0.7e9)
    })

    it('grants what completes a lease when little is left', async () => {
      const { authority } = open()
      await ask(authority, 'b', needs(9))
      await ask(authority, 'a', needs(0.4, { least: 0.4 }))
      const [result] = await ask(authority, 'a', needs(3))
      assert.equal(result?.held, 1)
    })

    it('grants a share of the rest beyond what is needed', async () => {
      const { authority } = open()
      assert.deepEqual(await granted(authority, 'a', needs(2, { want: 8 })), [6])
    })

    it('owes debits, and forgives beyond the bound', async () => {
      const { authority, time } = open()
      assert.equal((await ask(authority, 'a', bucket({ debit: 15 })))[0]?.level, -5)
      assert.deepEqual(await granted(authority, 'a', needs(1)), [0])
      time.nowMs += 6_000
      assert.deepEqual(await granted(authority, 'a', needs(1)), [1])
      assert.equal((await ask(authority, 'a', bucket({ spent: 1, debit: 1e9 })))[0]?.level, -100)
    })

    it('keeps slots of the living, and frees those of the dead', async () => {
      const { authority, time } = open()
      assert.deepEqual(await granted(authority, 'a', slots({ need: 4, want: 4 })), [4])
      assert.deepEqual(await granted(authority, 'b', slots({ need: 4, want: 4 })), [1])
      time.nowMs += 4_000
      assert.equal((await authority.decide({ replica: 'b', bye: false, items: [] })).replicas, 2)
      time.nowMs += 1_001
      assert.deepEqual(await granted(authority, 'b', slots({ held: 1, need: 4, want: 4 })), [4])
      const { known, replicas } = await authority.decide({ replica: 'a', bye: false, items: [] })
      assert.deepEqual({ known, replicas }, { known: false, replicas: 2 })
    })

    it('frees the slots of those who say goodbye', async () => {
      const { authority } = open()
      await ask(authority, 'a', slots({ need: 5, want: 5 }))
      await authority.decide({ replica: 'a', bye: true, items: [] })
      assert.deepEqual(await granted(authority, 'b', slots({ need: 5, want: 5 })), [5])
    })
  })
}

promises('in memory', () => {
  const time = new Time()
  return { authority: new MemoryAuthority(time), time }
})

describe('in memory', () => {
  it('is bounded: a key that there is no room for is not decided on, and the others are', async () => {
    const time = new Time()
    const authority = new MemoryAuthority(time, 2)
    await ask(authority, 'a', bucket({ key: '1' }), bucket({ key: '2' }))
    const items = [
      needs(1, { key: '1' }),
      needs(1, { key: '3' }),
      slots({ need: 1, want: 1 }),
      needs(1, { key: '2' }),
    ]
    assert.deepEqual(await granted(authority, 'a', ...items), [1, undefined, undefined, 1])
    time.nowMs += 60_000
    assert.deepEqual(await granted(authority, 'a', needs(1, { key: '3' })), [1])
    assert.equal(authority.size, 1)
  })

  it('looks at a few keys at a time, however many it keeps', () => {
    const time = new Time()
    const authority = new MemoryAuthority(time, 20_000)
    const put = (key: string) =>
      authority.decideNow({ replica: 'a', bye: false, items: [bucket({ key })] }).results[0]
    for (let i = 0; i < 20_000; i += 1) put(`old-${i}`)
    const visits = countVisits(() => assert.equal(put('new'), null))
    assert.ok(visits < 200, `${visits} entries were looked at`)
    time.nowMs += 60_000
    const visitsLater = countVisits(() => assert.ok(put('new')))
    assert.ok(visitsLater < 200, `${visitsLater} entries were looked at`)
    for (let i = 0; i < 10_000; i += 1) put(`next-${i}`)
    assert.ok(authority.size < 12_000, `${authority.size} are kept`)
  })
})

/** Entries of maps that were iterated over meanwhile. */
function countVisits(run: () => void): number {
  const prototype = Object.getPrototypeOf(new Map().entries()) as { next: () => unknown }
  const { next } = prototype
  let visits = 0
  prototype.next = function (this: unknown) {
    visits += 1
    return next.call(this)
  }
  try {
    run()
  } finally {
    prototype.next = next
  }
  return visits
}

describe('Redis', { skip: redisSkip() }, () => {
  let server: RedisServer
  let client: RedisClientType
  const opened: RedisAuthority[] = []
  const time = new Time()
  before(async () => {
    server = await RedisServer.create()
    client = createClient({ url: server.url })
    await client.connect()
  })
  after(async () => {
    for (const authority of opened) authority.close()
    client.destroy()
    await server.remove()
  })
  const openRedis = async (timeMs?: () => number, prefix = 'test') => {
    const authority = new RedisAuthority({ url: server.url, password: undefined, prefix }, timeMs)
    await authority.open(AbortSignal.timeout(5_000))
    opened.push(authority)
    return authority
  }

  let prefix = 0
  let current: RedisAuthority
  before(async () => {
    current = await openRedis(time.now)
  })
  // Each test begins with an empty server.
  promises('by script', () => {
    prefix += 1
    const authority: Authority = {
      title: current.title,
      open: (signal) => current.open(signal),
      close: () => {},
      decide: (wish) =>
        current.decide({
          ...wish,
          replica: wish.replica,
          items: wish.items.map((item) => ({ ...item, key: `${prefix}/${item.key}` })),
        }),
    }
    time.nowMs += 1_000_000
    return { authority, time }
  })

  it('decides to the bit as the model in memory does', async () => {
    const random = makeRandom(drawSeed())
    const clock = new Time()
    const model = new MemoryAuthority(clock)
    const redis = await openRedis(clock.now, 'model')
    const draw = (max: number) => Math.floor(random() * max)
    for (let i = 0; i < 2_000; i += 1) {
      clock.nowMs += random() < 0.5 ? 0 : random() < 0.9 ? draw(300) : draw(9_000)
      const items = Array.from({ length: draw(4) }, (_, at): AskItem => {
        const need = draw(6)
        const want = need + (random() < 0.5 ? 0 : draw(20))
        if (random() < 0.3) return slots({ key: `s${at}`, limit: 1 + draw(12), held: draw(8), need, want })
        return bucket({
          ...{ key: `b${at}`, capacity: 10 + at * 7, rate: 0.01 / (at + 1), debtMax: 40 },
          ...{
            spent: random() < 0.1 ? 1e18 : random() < 0.3 ? 0 : random() * 5,
            spentAgoMs: random() < 0.5 ? 0 : draw(1_500),
            back: random() < 0.7 ? 0 : draw(5),
          },
          ...{
            debit: random() < 0.7 ? 0 : (random() - 0.4) * 10,
            least: need === 0 ? 0 : 1 + random(),
            need,
            want,
          },
        })
      })
      const wish: Ask = { replica: `r${draw(4)}`, bye: random() < 0.02, items }
      assert.deepEqual(
        await redis.decide(wish),
        await model.decide(wish),
        `step ${i}: ${JSON.stringify(wish)}`,
      )
    }
  })

  it('goes by its own clock, and lets every key expire', async () => {
    const authority = await openRedis(undefined, 'expiry')
    await ask(authority, 'a', needs(1), slots({ need: 1, want: 1 }))
    const keys = await client.keys('*expiry*')
    assert.deepEqual(keys.toSorted(), ['{expiry:limits}:b', '{expiry:limits}:replicas', '{expiry:limits}:s'])
    for (const key of keys) {
      const ttlMs = await client.pTTL(key)
      assert.ok(ttlMs > 0 && ttlMs <= 125_000, `${key} lives for ${ttlMs} ms`)
    }
  })

  it('learns the script again when it has forgotten it', async () => {
    const authority = await openRedis(undefined, 'noscript')
    assert.deepEqual(await granted(authority, 'a', needs(1)), [1])
    await client.scriptFlush()
    assert.deepEqual(await granted(authority, 'a', needs(1)), [1])
  })

  it('gives up a connection that is not made in time', async () => {
    const authority = new RedisAuthority({
      url: 'redis://10.255.255.1:6379',
      password: undefined,
      prefix: 'x',
    })
    const abort = new AbortController()
    const opening = authority.open(abort.signal)
    abort.abort(new Error('too late'))
    await assert.rejects(opening)
  })
})

describe('Redis with a password', { skip: redisSkip() }, () => {
  it('lets in who knows it, and the message to others does not show it', async () => {
    const server = await RedisServer.create(['--requirepass', 'open-sesame'])
    try {
      const open = (password: string | undefined, url = server.url) =>
        new RedisAuthority({ url, password, prefix: 'p' })
      const good = open('open-sesame')
      await good.open(AbortSignal.timeout(5_000))
      assert.deepEqual(await granted(good, 'a', needs(1)), [1])
      good.close()
      for (const bad of [open('wrong-one'), open(undefined, server.url.replace('//', '//:wrong-one@'))]) {
        await assert.rejects(bad.open(AbortSignal.timeout(5_000)), (error: Error) => {
          assert.doesNotMatch(error.message, /wrong-one|sesame/)
          return true
        })
        assert.doesNotMatch(bad.title, /wrong-one/)
      }
    } finally {
      await server.remove()
    }
  })
})
