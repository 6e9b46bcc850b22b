import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { LeasedMeter } from '../../../../src/gateway/limits/shared/leased-meter.ts'
import type { LinkState } from '../../../../src/gateway/limits/shared/leased.ts'

const linkState = () => ({
  ...{ isDown: false, outage: 1, replicas: 4 },
  ...{ askFor: () => {}, tellNow: () => {}, tell: () => {}, remember: () => {}, watch: () => {}, forget: () => {} },
}) satisfies LinkState // prettier-ignore

const rule = { capacity: 80, rate: 0.01 }

describe('a lease', () => {
  it('is over before the authority thinks so, counted from before it was asked for', () => {
    const meter = new LeasedMeter(linkState(), 'b', rule, 0)
    meter.want(10)
    meter.compose(1_000)
    meter.apply({ granted: 10, held: 10, level: 70 }, 1_000, 1_040)
    assert.equal(meter.left(1_899), 10)
    assert.equal(meter.left(1_900), 0)
  })

  it('is spent once, however the ask and its answer cross what is taken', () => {
    const meter = new LeasedMeter(linkState(), 'b', rule, 0)
    meter.want(10)
    meter.compose(0)
    meter.apply({ granted: 10, held: 10, level: 70 }, 0, 1)
    meter.take(4, 10)
    const item = meter.compose(15)
    assert.deepEqual([item.spent, item.spentAgoMs], [4, 5])
    meter.take(3, 16)
    meter.apply({ granted: 0, held: 6, level: 70 }, 15, 20)
    assert.equal(meter.left(20), 3)
    assert.equal(meter.compose(21).spent, 3)
  })

  it('ends with an outage, and is told to be spent', () => {
    const link: { -readonly [K in keyof LinkState]: LinkState[K] } = linkState()
    const meter = new LeasedMeter(link, 'b', rule, 0)
    meter.want(10)
    meter.compose(0)
    meter.apply({ granted: 10, held: 10, level: 70 }, 0, 1)
    link.outage = 2
    link.isDown = true
    link.isDown = false
    assert.equal(meter.left(2), 0)
    assert.ok(meter.compose(3).spent >= rule.capacity)
  })
})

describe('the own share of a server', () => {
  it('begins with its part of what was last known, and owes what did not come back meanwhile', () => {
    const link: { -readonly [K in keyof LinkState]: LinkState[K] } = linkState()
    const meter = new LeasedMeter(link, 'b', rule, 0)
    meter.compose(0)
    meter.apply({ granted: 0, held: 0, level: 40 }, 0, 0)
    link.isDown = true
    link.outage = 2
    assert.equal(meter.left(0), 10)
    meter.take(10, 0)
    assert.equal(meter.left(0), 0)
    // A quarter of the rate.
    assert.equal(meter.left(1_000), 2.5)
    link.isDown = false
    meter.cameBack(2_000)
    // Unused it would be at 15 and is at 5.
    assert.equal(meter.compose(2_000).debit, 10)
    assert.equal(meter.compose(2_000).debit, 0)
  })

  it('owes nothing for what a whole share would have refilled', () => {
    const link: { -readonly [K in keyof LinkState]: LinkState[K] } = linkState()
    link.isDown = true
    const meter = new LeasedMeter(link, 'b', rule, 0)
    assert.equal(meter.left(0), 20)
    meter.take(20, 0)
    link.isDown = false
    meter.cameBack(8_000)
    assert.equal(meter.compose(8_000).debit, 0)
  })

  it('lets one unit through, however small', () => {
    const link: { -readonly [K in keyof LinkState]: LinkState[K] } = linkState()
    link.isDown = true
    const meter = new LeasedMeter(link, 'b', { capacity: 2, rate: 0.001 }, 0)
    assert.equal(meter.left(0), 0.5)
    assert.equal(meter.left(10_000), 1)
  })

  it('tells a debt again that may not have been heard, and forgets what it would get', () => {
    const link: { -readonly [K in keyof LinkState]: LinkState[K] } = linkState()
    const meter = new LeasedMeter(link, 'b', rule, 0)
    for (const [units, told] of [[5, 5], [-5, 0]] as const) {
      meter.correct(units, 0)
      assert.equal(meter.compose(0).debit, units)
      meter.lost()
      assert.equal(meter.compose(0).debit, told)
      meter.apply({ granted: 0, held: 0, level: 0 }, 0, 0)
    }
  })
}) // prettier-ignore
