import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import type { Scope } from '../../../../src/gateway/limits/scope.ts'
import { ScopeBook } from '../../../../src/gateway/limits/scope-book.ts'
import { Link } from '../../../../src/gateway/limits/shared/link.ts'
import { MemoryAuthority } from '../../../../src/gateway/limits/shared/memory-authority.ts'
import { SharedMeters } from '../../../../src/gateway/limits/shared/shared-meters.ts'
import type { LimitSettings } from '../../../../src/config/schema.ts'
import { ManualClock } from '../../../helpers/clock.ts'
import {
  aCaller,
  aRequest,
  isPass,
  limitsOf,
  makeLimiter,
  silentLog,
  tenantWith,
  tryEnter,
} from '../harness.ts'
import { settled, TestWay } from './cluster.ts'

/** A book with room for few, on an authority that can be away. */
async function makeBook(scopesMax: number) {
  const clock = new ManualClock()
  const way = new TestWay(new MemoryAuthority(clock))
  const link = new Link({ authority: way, clock, log: silentLog })
  const book = new ScopeBook(new SharedMeters(link), scopesMax)
  await link.start()
  const find = (tenant: string, limits: LimitSettings) => {
    const query = { caller: aCaller({ tenant }), settings: tenantWith(limits), model: 'm' }
    return book.find(query, {}, 1_000, clock.now())[0] as Scope
  }
  const away = async () => {
    way.mode = 'refused'
    clock.advance(2_000)
    await settled()
    assert.ok(link.isDown)
  }
  const back = async () => {
    way.mode = 'up'
    for (let i = 0; i < 40; i += 1) {
      clock.advance(250)
      await settled()
    }
    assert.ok(!link.isDown)
  }
  return { clock, way, link, book, find, away, back }
}

describe('a full book while the authority is away', () => {
  it('has room for newcomers as soon as others have got back what they used', async () => {
    const { clock, link, book, find, away, back } = await makeBook(100)
    await away()
    const limits = limitsOf({ requestsPerMinute: 600, tokensPerMinute: 60_000 })
    for (let i = 0; i < 1_000; i += 1) {
      const scope = find(`t${i}`, limits)
      scope.requests?.take(1, clock.now())
      scope.tokens?.take(100, clock.now())
      clock.advance(10)
    }
    assert.equal(book.size, 100)
    await back()
    await link.stop()
  })

  it('forgets nobody who has used more than has come back', async () => {
    const { clock, link, find, away, book } = await makeBook(4)
    await away()
    const limits = limitsOf({ requestsPerMinute: 60 })
    const first = find('first', limits)
    first.requests?.take(1, clock.now())
    clock.advance(500)
    for (const other of ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']) find(other, limits)
    assert.equal(find('first', limits), first)
    clock.advance(500)
    for (const other of ['i', 'j', 'k', 'l', 'm', 'n', 'o', 'p']) find(other, limits)
    assert.notEqual(find('first', limits), first)
    assert.equal(book.size, 4)
    await link.stop()
  })

  it('tells the authority, when it is back, of those alone that it still knows', async () => {
    const { clock, way, link, find, away, back } = await makeBook(50)
    await away()
    const limits = limitsOf({ concurrentMax: 5 })
    for (let i = 0; i < 2_000; i += 1) {
      const { slots } = find(`t${i}`, limits)
      slots.take(clock.now())
      slots.leave(clock.now())
    }
    way.asks.length = 0
    await back()
    const told = way.asks.flatMap(({ items }) => items).length
    assert.ok(told <= 50, `${told} were told of`)
    await link.stop()
  })

  it('keeps slots that the authority still counts, for as long as it may', async () => {
    const { clock, link, find, away, book } = await makeBook(2)
    const limits = limitsOf({ concurrentMax: 5 })
    const { slots } = find('a', limits)
    link.askFor(slots as never)
    ;(slots as unknown as { want: () => void }).want()
    await settled()
    slots.take(clock.now())
    await away()
    slots.leave(clock.now())
    for (const other of ['b', 'c', 'd']) find(other, limits)
    assert.equal(find('a', limits).slots, slots)
    clock.advance(121_000)
    for (const other of ['e', 'f', 'g', 'h']) find(other, limits)
    assert.notEqual(find('a', limits).slots, slots)
    assert.equal(book.size, 2)
    await link.stop()
  })
})

describe('an authority that is full', () => {
  it('refuses newcomers, is not taken for away, and goes on for those it knows', async () => {
    const clock = new ManualClock()
    const way = new TestWay(new MemoryAuthority(clock, 3))
    const limiter = makeLimiter(clock, {}, { authority: way })
    await limiter.start()
    const enter = async (tenant: string) => {
      const settings = tenantWith({ requestsPerMinute: 60 })
      const pass = await tryEnter(limiter, aRequest({ caller: aCaller({ tenant }), settings }))
      assert.ok(isPass(pass))
      pass.settle(10)
    }
    for (const tenant of ['a', 'b', 'c']) await enter(tenant)
    for (let i = 0; i < 8; i += 1) {
      await assert.rejects(enter(`new-${i}`), { code: 'overloaded', retryAfterMs: 1_000 })
      assert.equal(limiter.problem, null)
      await enter('a')
      clock.advance(250)
      await settled()
    }
    clock.advance(60_000)
    await settled()
    await enter('new-1')
    await limiter.stop()
  })
})
