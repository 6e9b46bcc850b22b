import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import {
  dynamicRules,
  lookAtFleet,
  steadyState,
  type DynamicState,
  type FleetHealth,
} from '../../../src/gateway/limits/dynamic.ts'
import { FailureShare } from '../../../src/gateway/limits/failure-share.ts'
import { ManualClock } from '../../helpers/clock.ts'
import { aRequest, calmHealth, countPasses, isPass, makeLimiter, tenantWith, tryEnter } from './harness.ts'

type Sight = { slowdown?: number; crowding?: number; errorShare?: number | null; idle?: boolean }

const healthOf = (sight: Sight, nowMs: number): FleetHealth => ({
  live: {
    slowdown: sight.slowdown ?? 1,
    crowding: sight.crowding ?? 1,
    seenAtMs: sight.idle === true ? nowMs - 20_000 : nowMs,
  },
  errorShare: sight.errorShare ?? null,
})

/** So many seconds of the same sight, two looks in each. */
function watch(
  from: DynamicState,
  sight: Sight,
  seconds: number,
  { startMs = 0, floor = 0.25, ceiling = 1.25 } = {},
) {
  let state = from
  for (let i = 1; i <= seconds * 2; i += 1) {
    const nowMs = startMs + i * 500
    state = lookAtFleet(state, healthOf(sight, nowMs), { floor, ceiling, nowMs })
  }
  return state
}

const round = ({ shares }: DynamicState) =>
  [shares.flex, shares.default, shares.priority].map((share) => Math.round(share * 100) / 100)

describe('dynamic rates', () => {
  const table: { what: string; sight: Sight; seconds: number; shares: number[] }[] = [
    { what: 'stay while the fleet is as usual', sight: {}, seconds: 60, shares: [1, 1, 1] },
    { what: 'grow in the valley, up to the ceiling', sight: { slowdown: 1, crowding: 0.5 }, seconds: 60, shares: [1.25, 1.25, 1.25] },
    { what: 'grow when nobody asks, whatever was measured before', sight: { slowdown: 9, idle: true }, seconds: 60, shares: [1.25, 1.25, 1.25] },
    { what: 'stay when things are neither well nor unwell', sight: { slowdown: 1.4 }, seconds: 60, shares: [1, 1, 1] },
    { what: 'fall for flex alone when the fleet is a bit slow', sight: { slowdown: 1.7 }, seconds: 60, shares: [0.25, 1, 1] },
    { what: 'fall once a second', sight: { slowdown: 9 }, seconds: 2, shares: [0.49, 1, 1] },
    { what: 'fall for default when flex is at the floor', sight: { crowding: 3.5 }, seconds: 60, shares: [0.25, 0.25, 1] },
    { what: 'fall for the interactive last', sight: { crowding: 9 }, seconds: 12, shares: [0.25, 0.25, 0.9] },
    { what: 'fall to the floor and no further', sight: { crowding: 9 }, seconds: 120, shares: [0.25, 0.25, 0.25] },
    { what: 'fall by errors too', sight: { errorShare: 0.08 }, seconds: 60, shares: [0.25, 1, 1] },
    { what: 'do not grow beyond the promise while answers fail', sight: { crowding: 0.5, errorShare: 0.015 }, seconds: 60, shares: [1, 1, 1] },
  ] // prettier-ignore
  for (const { what, sight, seconds, shares } of table) {
    it(what, () => assert.deepEqual(round(watch(steadyState, sight, seconds)), shares))
  }

  it('come back after the peak, the interactive first, and none above a higher one', () => {
    const peak = watch(steadyState, { crowding: 9 }, 120)
    const soon = watch(peak, {}, 10, { startMs: 120_000 })
    assert.deepEqual(round(soon), [0.45, 0.55, 0.65])
    assert.deepEqual(round(watch(soon, {}, 60, { startMs: 130_000 })), [1, 1, 1])
  })

  it('give up first what was beyond the promise', () => {
    const valley = watch(steadyState, { crowding: 0.5 }, 60)
    assert.deepEqual(round(watch(valley, { slowdown: 1.4 }, 60, { startMs: 60_000 })), [1, 1, 1])
    assert.equal(
      round(watch(valley, { slowdown: 1.7 }, 1, { startMs: 60_000 }))[0],
      dynamicRules.tiers.flex.factor,
    )
  })

  it('have a floor and a ceiling of their own', () => {
    const limits = { floor: 0.5, ceiling: 1 }
    assert.deepEqual(round(watch(steadyState, { crowding: 9 }, 120, limits)), [0.5, 0.5, 0.5])
    assert.deepEqual(round(watch(steadyState, { crowding: 0 }, 120, limits)), [1, 1, 1])
  })
})

describe('a limiter with dynamic rates', () => {
  it('lets fewer through at the peak, says so, and more again after it', async () => {
    const clock = new ManualClock()
    let sight: Sight = { crowding: 3.5 }
    const health = () => healthOf(sight, clock.now())
    const limiter = makeLimiter(clock, { dynamic: true }, { health })
    await limiter.start()
    clock.advance(60_000)
    const settings = tenantWith({ requestsPerMinute: 100 })
    assert.equal(await countPasses(limiter, aRequest({ settings }), 200), 25)
    const refusal = await tryEnter(limiter, aRequest({ settings }))
    assert.ok(!isPass(refusal))
    assert.match(refusal.message, /limit of 100 requests a minute, of which 25 % can be had while the models are busy; try again in 3 s/)
    assert.equal(refusal.retryAfterMs, 2_400)
    clock.advance(2_400)
    assert.ok(isPass(await tryEnter(limiter, aRequest({ settings }))))
    assert.equal(limiter.shares.priority, 1)
    sight = {}
    clock.advance(120_000)
    assert.equal(await countPasses(limiter, aRequest({ settings }), 200), 100)
    await limiter.stop()
    assert.equal(clock.pending, 0)
  }) // prettier-ignore

  it('keeps to the rates when they are not dynamic', async () => {
    const clock = new ManualClock()
    const limiter = makeLimiter(
      clock,
      { dynamic: false },
      { health: () => ({ ...calmHealth, errorShare: 1 }) },
    )
    await limiter.start()
    clock.advance(60_000)
    assert.deepEqual(limiter.shares, { flex: 1, default: 1, priority: 1 })
    await limiter.stop()
  })
})

describe('the share of failures', () => {
  it('is unknown for a few answers, and follows within seconds', () => {
    const clock = new ManualClock()
    const share = new FailureShare(clock)
    for (let i = 0; i < 19; i += 1) share.note(false)
    assert.equal(share.read(), null)
    for (let i = 0; i < 21; i += 1) share.note(i < 10)
    assert.equal(share.read(), 0.25)
    clock.advance(60_000)
    assert.equal(share.read(), null)
  })
})
