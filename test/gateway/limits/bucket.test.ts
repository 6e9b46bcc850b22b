import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  debtMaxOf,
  levelAt,
  makeBucket,
  makeRule,
  takeAll,
  takeFrom,
  waitMs,
  withRule,
} from '../../../src/gateway/limits/bucket.ts'
import { drawSeed, findExcess, type Taken } from './harness.ts'

const rule = makeRule(60, 10_000)

describe('a token bucket', () => {
  it('holds the burst, and one unit at least', () => {
    assert.deepEqual(rule, { rate: 0.001, capacity: 10 })
    assert.equal(makeRule(1, 1_000).capacity, 1)
  })

  it('rises with time up to its capacity, and never with a clock that goes back', () => {
    const bucket = { ...rule, level: 4, atMs: 1_000 }
    assert.equal(levelAt(bucket, 3_000), 6)
    assert.equal(levelAt(bucket, 1_000_000), 10)
    assert.equal(levelAt(bucket, 0), 4)
  })

  it('says exactly how long to wait', () => {
    assert.equal(waitMs(4, 4, 0.001), 0)
    assert.equal(waitMs(4, 5, 0.001), 1_000)
    assert.equal(waitMs(4, 4.5, 0.001), 500)
    assert.equal(waitMs(-2, 1, 0.001), 3_000)
  })

  it('takes from all or from none', () => {
    const one = { ...rule, level: 4, atMs: 0 }
    const other = { ...rule, level: 1, atMs: 0 }
    assert.equal(takeAll([one, other], [3, 2], 0), 1_000)
    assert.deepEqual([one.level, other.level], [4, 1])
    assert.equal(takeAll([one, other], [3, 1], 0), 0)
    assert.deepEqual([one.level, other.level], [1, 0])
  })

  it('lets what is larger than itself through when it is full', () => {
    const bucket = makeBucket(rule, 0)
    assert.equal(takeAll([bucket], [1_000], 0), 0)
    assert.equal(bucket.level, 0)
    assert.equal(takeAll([bucket], [1_000], 0), 10_000)
  })

  it('owes what was used beyond the estimate, up to an hour of its rate', () => {
    const bucket = makeBucket(rule, 0)
    takeFrom(bucket, 25, 0)
    assert.equal(bucket.level, -15)
    takeFrom(bucket, 1e9, 0)
    assert.equal(bucket.level, -debtMaxOf(rule))
    assert.equal(debtMaxOf(rule), 3_600)
  })

  it('keeps what was used when its rule changes', () => {
    const bucket = { ...rule, level: 4, atMs: 0 }
    assert.equal(withRule(bucket, makeRule(120, 10_000), 0).level, 14)
    assert.equal(withRule(bucket, makeRule(6, 10_000), 0).level, -5)
  })
})

describe('any interleaving', () => {
  const step = fc.record({
    passMs: fc.oneof(
      fc.constant(0),
      fc.double({ min: 0, max: 5, noNaN: true }),
      fc.integer({ min: 0, max: 30_000 }),
    ),
    units: fc.oneof(fc.integer({ min: 0, max: 30 }), fc.double({ min: 0, max: 12, noNaN: true })),
    back: fc.double({ min: 0, max: 1, noNaN: true }),
  })

  it('never lets more than burst + rate * time through, in any interval', () => {
    const seed = drawSeed()
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 200 }),
        fc.integer({ min: 1, max: 100_000 }),
        (steps, perMinute) => {
          const bucket = makeBucket(makeRule(perMinute, 10_000), 0)
          const taken: Taken[] = []
          let nowMs = 0
          for (const { passMs, units, back } of steps) {
            nowMs += passMs
            if (takeAll([bucket], [units], nowMs) > 0) continue
            const got = Math.min(units, bucket.capacity)
            taken.push({ atMs: nowMs, units: got })
            // A part of the estimate comes back: what is net of that counts.
            const returned = Math.min(got * back, bucket.capacity - levelAt(bucket, nowMs))
            takeFrom(bucket, -returned, nowMs)
            taken.push({ atMs: nowMs, units: -returned })
          }
          assert.ok(findExcess(taken, bucket) < 1e-3)
        },
      ),
      { seed, numRuns: 500 },
    )
  })

  it('is told no more than the time after which it passes, also for a hair of a unit', () => {
    const bucket = makeBucket(makeRule(3, 10_000), 0)
    assert.equal(takeAll([bucket], [1], 0), 0)
    assert.equal(takeAll([bucket], [5e-7], 0), 0)
    const ms = takeAll([bucket], [1], 5_964)
    assert.notEqual(takeAll([{ ...bucket }], [1], 5_964 + ms - 1), 0)
    assert.equal(takeAll([{ ...bucket }], [1], 5_964 + ms), 0)
  })

  it('passes after exactly the time that it was told, and not a millisecond sooner', () => {
    const seed = drawSeed()
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 50 }),
        fc.integer({ min: 1, max: 10_000 }),
        (steps, perMinute) => {
          const bucket = makeBucket(makeRule(perMinute, 10_000), 0)
          let nowMs = 0
          for (const { passMs, units } of steps) {
            nowMs += passMs
            const ms = takeAll([bucket], [units], nowMs)
            if (ms === 0) continue
            assert.notEqual(takeAll([{ ...bucket }], [units], nowMs + ms - 1), 0)
            assert.equal(takeAll([{ ...bucket }], [units], nowMs + ms), 0)
          }
        },
      ),
      { seed, numRuns: 300 },
    )
  })
})
