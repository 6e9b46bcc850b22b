import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { LimitRefusal } from '../../../src/gateway/limits/refusal.ts'
import { appendRateHeaders, formatReset } from '../../../src/gateway/limits/rate-headers.ts'
import { ManualClock } from '../../helpers/clock.ts'
import { aRequest, isPass, limitsOf, makeLimiter, tenantWith, tryEnter } from './harness.ts'

describe('a duration', () => {
  const table: [number, string][] = [
    [0, '0s'],
    [20, '20ms'],
    [999, '999ms'],
    [1_000, '1s'],
    [8_640, '8.64s'],
    [60_000, '1m0s'],
    [360_000, '6m0s'],
    [86_400, '1m26.4s'],
    [3_600_000, '1h0m0s'],
    [90_061_001, '25h1m1.001s'],
  ]
  for (const [ms, text] of table) it(`of ${ms} ms is ${text}`, () => assert.equal(formatReset(ms), text))
})

describe('rate headers', () => {
  it('tell of the tightest limit that applies', async () => {
    const clock = new ManualClock()
    const limiter = makeLimiter(clock, { models: { m: limitsOf({ requestsPerMinute: 5 }) } })
    const settings = tenantWith({ requestsPerMinute: 60, tokensPerMinute: 6_000 })
    const pass = await tryEnter(limiter, aRequest({ settings, tokens: 100 }))
    assert.ok(isPass(pass))
    const headers = ['x-request-id', '1']
    assert.ok(pass.rates)
    appendRateHeaders(headers, pass.rates)
    assert.deepEqual(headers, [
      ...['x-request-id', '1'],
      ...['x-ratelimit-limit-requests', '5', 'x-ratelimit-remaining-requests', '4', 'x-ratelimit-reset-requests', '12s'],
      ...['x-ratelimit-limit-tokens', '6000', 'x-ratelimit-remaining-tokens', '5900', 'x-ratelimit-reset-tokens', '1s'],
    ])
  }) // prettier-ignore

  it('leave out what is not limited, and come with a refusal too', async () => {
    const limiter = makeLimiter(new ManualClock())
    const settings = tenantWith({ requestsPerMinute: 1 })
    await tryEnter(limiter, aRequest({ settings }))
    const refusal = await tryEnter(limiter, aRequest({ settings }))
    assert.ok(refusal instanceof LimitRefusal && refusal.rates)
    const headers: string[] = []
    appendRateHeaders(headers, refusal.rates)
    assert.deepEqual(headers, [
      ...['x-ratelimit-limit-requests', '1', 'x-ratelimit-remaining-requests', '0'],
      ...['x-ratelimit-reset-requests', '1m0s'],
    ])
  })
})
