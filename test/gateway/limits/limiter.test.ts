import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import type { RefusedBy } from '../../../src/gateway/limits/limiter.ts'
import type { Pass } from '../../../src/gateway/limits/pass.ts'
import { LimitRefusal } from '../../../src/gateway/limits/refusal.ts'
import { ManualClock } from '../../helpers/clock.ts'
import {
  aCaller,
  aRequest,
  countPasses,
  drawSeed,
  findExcess,
  isPass,
  limitsOf,
  makeLimiter,
  makeRandom,
  tenantWith,
  tryEnter,
  type Taken,
} from './harness.ts'

async function refusalOf(...args: Parameters<typeof tryEnter>): Promise<LimitRefusal> {
  const outcome = await tryEnter(...args)
  assert.ok(outcome instanceof LimitRefusal, 'it was let in')
  return outcome
}

async function passOf(...args: Parameters<typeof tryEnter>): Promise<Pass> {
  const outcome = await tryEnter(...args)
  assert.ok(isPass(outcome), `it was refused: ${String(outcome)}`)
  return outcome
}

describe('a caller without limits', () => {
  it('passes at once, is told of no rate, and is not remembered', () => {
    const limiter = makeLimiter(new ManualClock(), { models: { other: limitsOf({ requestsPerMinute: 1 }) } })
    const pass = limiter.enter(aRequest())
    assert.ok(!(pass instanceof Promise))
    assert.equal(pass.rates, null)
    pass.settle(5)
    assert.equal(limiter.scopes, 0)
  })
})

describe('rates', () => {
  const scopes = [
    { name: 'tenant', settings: tenantWith({ requestsPerMinute: 2 }), caller: aCaller(), models: {}, says: 'The tenant acme has used up its limit of 2 requests a minute' },
    { name: 'key', settings: tenantWith({}), caller: aCaller({ keyId: 'k1', limits: limitsOf({ requestsPerMinute: 2 }) }), models: {}, says: 'This key has used up its limit of 2 requests a minute' },
    { name: 'tenant_model', settings: tenantWith({ modelLimits: { m: limitsOf({ requestsPerMinute: 2 }) } }), caller: aCaller(), models: {}, says: 'Your tenant on the model m has used up its limit of 2 requests a minute' },
    { name: 'model', settings: tenantWith({}), caller: aCaller(), models: { m: limitsOf({ requestsPerMinute: 2 }) }, says: 'The model m, for all tenants together, has used up its limit of 2 requests a minute' },
  ] as const // prettier-ignore
  for (const { name, settings, caller, models, says } of scopes) {
    it(`of a ${name} are kept, and the refusal names it with the exact wait`, async () => {
      const clock = new ManualClock()
      const refused: RefusedBy[] = []
      const limiter = makeLimiter(clock, { models }, { onRefused: (by) => refused.push(by) })
      const request = aRequest({ settings, caller })
      assert.equal(await countPasses(limiter, request, 2), 2)
      clock.advance(1_500)
      const refusal = await refusalOf(limiter, request)
      assert.equal(refusal.code, 'rate_limited')
      assert.equal(refusal.retryAfterMs, 28_500)
      assert.ok(refusal.message.startsWith(says), refusal.message)
      assert.ok(refusal.message.endsWith('try again in 29 s.'))
      assert.deepEqual(refused, [{ scope: name, unit: 'requests' }])
      clock.advance(28_499)
      assert.ok(!isPass(await tryEnter(limiter, request)))
      clock.advance(1)
      assert.ok(isPass(await tryEnter(limiter, request)))
    })
  }

  it('of other tenants, keys and models are others', async () => {
    const limiter = makeLimiter(new ManualClock())
    const settings = tenantWith({ requestsPerMinute: 1 })
    const key = limitsOf({ requestsPerMinute: 1 })
    for (const caller of [aCaller(), aCaller({ tenant: 'b' })]) {
      assert.equal(await countPasses(limiter, aRequest({ caller, settings }), 3), 1)
    }
    for (const keyId of ['k1', 'k2']) {
      const caller = aCaller({ tenant: 'c', keyId, limits: key })
      assert.equal(await countPasses(limiter, aRequest({ caller }), 3), 1)
    }
  })

  it('take nothing of one limit when another is used up', async () => {
    const clock = new ManualClock()
    const limiter = makeLimiter(clock, { models: { m: limitsOf({ requestsPerMinute: 1 }) } })
    const settings = tenantWith({ requestsPerMinute: 3 })
    assert.equal(await countPasses(limiter, aRequest({ settings }), 5), 1)
    assert.equal(await countPasses(limiter, aRequest({ settings, model: 'free' }), 5), 2)
  })

  it('hold the longest wait of all, and name that limit', async () => {
    const limiter = makeLimiter(new ManualClock())
    const settings = tenantWith({ requestsPerMinute: 60, tokensPerMinute: 600 })
    await passOf(limiter, aRequest({ settings, tokens: 600 }))
    const refusal = await refusalOf(limiter, aRequest({ settings, tokens: 50 }))
    assert.equal(refusal.retryAfterMs, 5_000)
    assert.match(refusal.message, /limit of 600 tokens a minute/)
  })

  it('follow settings that change, and keep what was used', async () => {
    const limiter = makeLimiter(new ManualClock())
    assert.equal(
      await countPasses(limiter, aRequest({ settings: tenantWith({ requestsPerMinute: 2 }) }), 3),
      2,
    )
    const more = tenantWith({ requestsPerMinute: 5 })
    assert.equal(await countPasses(limiter, aRequest({ settings: more }), 5), 3)
    assert.ok(isPass(await tryEnter(limiter, aRequest({ settings: tenantWith({}) }))))
  })
})

describe('tokens', () => {
  const settings = tenantWith({ tokensPerMinute: 600 })

  it('are reserved by estimate and corrected by what was used', async () => {
    const clock = new ManualClock()
    const limiter = makeLimiter(clock)
    const pass = await passOf(limiter, aRequest({ settings, tokens: 500 }))
    assert.equal(pass.rates?.tokens?.remaining, 100)
    pass.settle(50)
    assert.equal(pass.rates?.tokens?.remaining, 550)
    const over = await passOf(limiter, aRequest({ settings, tokens: 50 }))
    over.settle(650)
    const refusal = await refusalOf(limiter, aRequest({ settings, tokens: 10 }))
    assert.equal(refusal.retryAfterMs, 11_000)
    clock.advance(11_000)
    await passOf(limiter, aRequest({ settings, tokens: 10 }))
  })

  it('stay as estimated when nobody counted them', async () => {
    const limiter = makeLimiter(new ManualClock())
    const pass = await passOf(limiter, aRequest({ settings, tokens: 500 }))
    pass.settle(null)
    assert.equal(pass.rates?.tokens?.remaining, 100)
  })

  it('of a request that is larger than the burst are counted after it', async () => {
    const limiter = makeLimiter(new ManualClock())
    const pass = await passOf(limiter, aRequest({ settings, tokens: 5_000 }))
    pass.settle(1_200)
    assert.equal((await refusalOf(limiter, aRequest({ settings, tokens: 600 }))).retryAfterMs, 120_000)
  })

  it('and requests come back from what came to nothing, once', async () => {
    const limiter = makeLimiter(new ManualClock())
    const both = tenantWith({ requestsPerMinute: 1, tokensPerMinute: 600, concurrentMax: 1 })
    const pass = await passOf(limiter, aRequest({ settings: both, tokens: 5_000 }))
    pass.cancel()
    pass.cancel()
    pass.settle(1_000)
    const next = await passOf(limiter, aRequest({ settings: both, tokens: 600 }))
    assert.equal(next.rates?.tokens?.remaining, 0)
  })
})

describe('requests at once', () => {
  const settings = tenantWith({ concurrentMax: 3, requestsPerMinute: 100_000 })

  it('are counted exactly, on all ways out', async () => {
    const limiter = makeLimiter(new ManualClock(), { models: { m: limitsOf({ concurrentMax: 5 }) } })
    const random = makeRandom(drawSeed())
    const open = new Map<string, Pass[]>([['a', []], ['b', []]]) // prettier-ignore
    const count = () => [...open.values()].reduce((sum, passes) => sum + passes.length, 0)
    for (let i = 0; i < 3_000; i += 1) {
      const tenant = random() < 0.5 ? 'a' : 'b'
      const mine = open.get(tenant) ?? []
      if (random() < 0.5) {
        const outcome = await tryEnter(limiter, aRequest({ settings, caller: aCaller({ tenant }) }))
        const mayPass = mine.length < 3 && count() < 5
        assert.equal(isPass(outcome), mayPass)
        if (isPass(outcome)) mine.push(outcome)
        else assert.equal(outcome.code, 'concurrency_limited')
        continue
      }
      const [pass] = mine.splice(Math.floor(random() * mine.length), 1)
      if (random() < 0.3) pass?.cancel()
      else pass?.settle(random() < 0.5 ? null : 3)
      if (random() < 0.3) pass?.settle(0)
    }
  })

  it('are refused by name, and stay counted while the limit changes', async () => {
    const limiter = makeLimiter(new ManualClock())
    const first = await passOf(limiter, aRequest({ settings: tenantWith({ requestsPerMinute: 10 }) }))
    const one = tenantWith({ concurrentMax: 1 })
    const refusal = await refusalOf(limiter, aRequest({ settings: one }))
    assert.equal(refusal.message, 'The tenant acme has 1 request under way, and may have no more at once; try again when one has ended.')
    assert.equal(refusal.retryAfterMs, 1_000)
    first.settle(null)
    await passOf(limiter, aRequest({ settings: one }))
  }) // prettier-ignore
})

describe('many tenants', () => {
  it('at a hundred times their limit cost others nothing and leave nothing behind', async () => {
    const clock = new ManualClock()
    const limiter = makeLimiter(clock, { burstMs: 1_000 })
    const settings = tenantWith({ requestsPerMinute: 60_000 })
    const greedy = aCaller({ tenant: 'greedy' })
    const before = limiter.scopes
    const passes = await countPasses(limiter, aRequest({ settings, caller: greedy }), 100_000)
    assert.equal(passes, 1_000)
    assert.equal(limiter.scopes, before + 1)
    const other = aCaller({ tenant: 'other' })
    assert.equal(await countPasses(limiter, aRequest({ settings, caller: other }), 1_000), 1_000)
  })
})

describe('any interleaving of tenants, keys and models', () => {
  it('keeps every limit in every interval', async () => {
    const random = makeRandom(drawSeed())
    const clock = new ManualClock()
    const models = { m: limitsOf({ requestsPerMinute: 900, tokensPerMinute: 20_000 }) }
    const limiter = makeLimiter(clock, { models, burstMs: 10_000 })
    const settings = tenantWith({ requestsPerMinute: 600, tokensPerMinute: 30_000, modelLimits: { m: limitsOf({ requestsPerMinute: 500 }) } })
    const key = limitsOf({ requestsPerMinute: 300 })
    const taken = new Map<string, Taken[]>()
    const note = (name: string, units: number) => {
      const list = taken.get(name) ?? []
      list.push({ atMs: clock.now(), units })
      taken.set(name, list)
    }
    for (let i = 0; i < 20_000; i += 1) {
      if (random() < 0.3) clock.advance(Math.floor(random() * random() * 400))
      const tenant = random() < 0.5 ? 'a' : 'b'
      const caller = random() < 0.5 ? aCaller({ tenant }) : aCaller({ tenant, keyId: `k-${tenant}`, limits: key })
      const model = random() < 0.7 ? 'm' : 'n'
      const tokens = Math.floor(random() * 200)
      const outcome = await tryEnter(limiter, aRequest({ caller, settings, model, tokens }))
      if (!isPass(outcome)) continue
      note(`t/${tenant}`, 1)
      note(`tt/${tenant}`, tokens)
      if (caller.keyId !== null) note(`k/${tenant}`, 1)
      if (model === 'm') note(`x/${tenant}`, 1)
      if (model === 'm') note('m', 1)
      if (model === 'm') note('mt', tokens)
      outcome.settle(null)
    }
    const rates: Record<string, number> = { 't/a': 600, 't/b': 600, 'tt/a': 30_000, 'tt/b': 30_000, 'k/a': 300, 'k/b': 300, 'x/a': 500, 'x/b': 500, m: 900, mt: 20_000 }
    for (const [name, perMinute] of Object.entries(rates)) {
      const events = taken.get(name) ?? []
      assert.ok(events.length > 100, `${name} was not tried`)
      const rate = perMinute / 60_000
      const excess = findExcess(events, { rate, capacity: rate * 10_000 })
      assert.ok(excess < 1e-3, `${name} exceeded by ${excess}`)
    }
  }) // prettier-ignore
})
