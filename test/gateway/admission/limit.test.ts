import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  adjustLimit,
  isPrompt,
  newLimit,
  type Latency,
  type LimitState,
  type LimitWindow,
} from '../../../src/gateway/admission/limit.ts'

const rules = { concurrencyMin: 4, ttftTargetMs: 0 }

const latency = (medianMs: number, highMs = medianMs * 2): Latency => {
  return { samples: 50, medianMs, highMs }
}

const window = (nowMs: number, more: Partial<LimitWindow> = {}): LimitWindow => ({
  nowMs,
  slots: 64,
  start: 64,
  inFlightMax: 0,
  peak: 64,
  hasWaited: true,
  ended: 10,
  drops: 0,
  stream: null,
  whole: null,
  ...more,
})

/** A state that has learnt what is usual. */
const known = (more: Partial<LimitState> = {}): LimitState => ({
  ...newLimit({ slots: 64, start: 64 }, rules),
  isProbing: false,
  stream: { ms: 200, atMs: 0 },
  whole: { ms: 4_000, atMs: 0 },
  ...more,
})

function run(
  from: LimitState,
  windows: number,
  windowOf: (state: LimitState, nowMs: number) => Partial<LimitWindow>,
  its = rules,
) {
  let state = from
  for (let i = 1; i <= windows; i += 1) {
    state = adjustLimit(state, window(i * 1000, windowOf(state, i * 1000)), its)
  }
  return state
}

test('it starts from what the fleet holds, and moves with it', () => {
  assert.equal(newLimit({ slots: 64, start: 64 }, rules).limit, 64)
  assert.equal(newLimit({ slots: 0, start: 0 }, rules).limit, 16)
  assert.equal(newLimit({ slots: 1, start: 1 }, rules).limit, 4)
  const doubled = adjustLimit(known({ limit: 80 }), window(1, { slots: 128 }), rules)
  assert.deepEqual([doubled.limit, doubled.slots], [160, 128])
  const halved = adjustLimit(doubled, window(2, { slots: 64 }), rules)
  assert.equal(halved.limit, 80)
  // All down for a moment: it comes back as it was.
  assert.equal(adjustLimit(halved, window(3, { slots: 0 }), rules).limit, 80)
})

test('it grows while it is used and answers come as usual, and only then', () => {
  const good = { stream: latency(200) }
  assert.ok(run(known(), 20, () => good).limit > 100)
  assert.equal(run(known(), 20, () => ({ ...good, peak: 20, hasWaited: false })).limit, 64)
  // Neither as usual nor too slow: it stays, or what is allowed would become what is usual.
  assert.equal(run(known(), 20, () => ({ stream: latency(420) })).limit, 64)
  // The instances take in no more.
  assert.equal(run(known(), 50, () => ({ ...good, inFlightMax: 70 })).limit, 70)
})

test('it falls with the gradient, and does not take the crowd for what is usual', () => {
  const slow = { stream: latency(1_000) }
  const first = adjustLimit(known(), window(1_000, slow), rules)
  assert.ok(first.limit < 60 && first.limit >= 64 * 0.8, String(first.limit))
  const later = run(known(), 12, ({ limit }) => ({ stream: latency(1_000), peak: limit }))
  assert.equal(Math.round(later.limit), 16, 'a quarter of the slots')
  const crowded = run(known(), 60, () => ({ stream: latency(450), peak: 64 }))
  assert.ok(crowded.stream!.ms < 210, String(crowded.stream!.ms))
})

test('what is slow with few under way is not slow from a crowd, and becomes the usual', () => {
  // Prompts ten times as long from now on: it falls, learns at its floor, and comes back.
  const state = run(known(), 200, ({ limit }) => ({ stream: latency(2_000), peak: limit }))
  assert.ok(state.stream!.ms > 1_500, String(state.stream!.ms))
  assert.ok(state.limit > 40, String(state.limit))
})

test('a limit that nobody has tried falls to what was under way', () => {
  const state = run(known({ limit: 2_000 }), 10, () => ({ stream: latency(2_000), peak: 100 }))
  assert.ok(state.limit < 60, String(state.limit))
})

test('streams are heard first, whole answers where there are too few, and each has its own usual', () => {
  const both = { stream: latency(200), whole: latency(60_000) }
  assert.ok(adjustLimit(known(), window(1, both), rules).limit > 64)
  assert.ok(adjustLimit(known(), window(1, { whole: latency(60_000) }), rules).limit < 64)
  assert.equal(adjustLimit(known(), window(1, { whole: latency(12_000) }), rules).limit, 64)
  const next = adjustLimit(known(), window(1_000, { stream: latency(100), whole: latency(2_000) }), rules)
  assert.ok(next.stream!.ms < 200 && next.stream!.ms > 100)
  assert.ok(next.whole!.ms < 4_000 && next.whole!.ms > 2_000)
})

test('being turned away by the instances lowers it at once by half of their share, down to the least', () => {
  assert.equal(adjustLimit(known(), window(1, { drops: 10 }), rules).limit, 32)
  assert.equal(adjustLimit(known(), window(1, { ended: 64, drops: 2 }), rules).limit, 63)
  assert.equal(run(known(), 100, ({ limit }) => ({ drops: 3, peak: limit })).limit, 4)
  // One of a thousand, in every other second.
  const rare = run(known(), 100, (_, nowMs) => ({
    ...{ ended: 1_000, drops: nowMs % 2_000 === 0 ? 1 : 0, stream: latency(200) },
  }))
  assert.ok(rare.limit > 64, String(rare.limit))
})

test('a target is what the limit steers to, whatever is usual', () => {
  const target = { concurrencyMin: 2, ttftTargetMs: 1_000 }
  // A fleet whose first byte takes 20 ms for each request under way: 400 ms for nine of ten are left of a second.
  const fleet = ({ limit }: LimitState) => ({ stream: latency(10 * limit, 20 * limit), peak: limit })
  for (const from of [4, 64, 500]) {
    const { limit } = run(known({ limit: from }), 400, fleet, target)
    assert.ok(limit > 14 && limit < 26, `${limit} from ${from}`)
  }
  assert.equal(run(known(), 100, () => ({ stream: latency(5_000) }), target).limit >= 2, true)
})

test('probing goes on while first bytes come as usual, and ends with a window that does not', () => {
  const start = newLimit({ slots: 64, start: 64 }, rules)
  assert.ok(start.isProbing)
  // Nothing is known yet: only what nobody would mind.
  assert.deepEqual([40, 60].map((ms) => isPrompt(start, ms, { ...rules, stream: true })), [true, false]) // prettier-ignore
  assert.deepEqual([290, 310].map((ms) => isPrompt(known(), ms, { ...rules, stream: true })), [true, false]) // prettier-ignore
  assert.ok(!adjustLimit(start, window(1, { drops: 1 }), rules).isProbing)
  const slow = adjustLimit(known({ isProbing: true }), window(1, { stream: latency(900) }), rules)
  assert.ok(!slow.isProbing)
  assert.ok(adjustLimit(slow, window(2, { stream: latency(150) }), rules).isProbing)
})

const anyLatency = fc.option(
  fc.record({ medianMs: fc.double({ min: 0, max: 1e6, noNaN: true }), spread: fc.double({ min: 1, max: 9, noNaN: true }) }).map(({ medianMs, spread }) => latency(medianMs, medianMs * spread)),
) // prettier-ignore

test('whatever it sees, it stays a number between its bounds, and one window takes no more than a fifth for slowness', () => {
  const anyWindow = fc.record({
    slots: fc.constant(64),
    start: fc.constant(64),
    peak: fc.nat(1_000),
    hasWaited: fc.boolean(),
    ended: fc.nat(5),
    drops: fc.nat(2),
    inFlightMax: fc.constantFrom(0, 300),
    stream: anyLatency,
    whole: anyLatency,
  })
  const anyRules = fc.record({
    concurrencyMin: fc.integer({ min: 1, max: 40 }),
    ttftTargetMs: fc.constantFrom(0, 10, 2_000),
  })
  fc.assert(
    fc.property(fc.array(anyWindow, { maxLength: 60 }), anyRules, (windows, its) => {
      let state = newLimit({ slots: 64, start: 64 }, its)
      windows.forEach((seen, i) => {
        const before = state.limit
        // Under way is never more than the limit.
        const peak = Math.min(seen.peak, Math.floor(before))
        state = adjustLimit(state, { nowMs: i * 1000, ...seen, peak }, its)
        assert.ok(Number.isFinite(state.limit) && state.limit >= its.concurrencyMin)
        if (seen.inFlightMax > 0) assert.ok(state.limit <= Math.max(seen.inFlightMax, its.concurrencyMin))
        const tried = Math.max(peak, before / 2)
        const ceiling = seen.inFlightMax || Infinity
        if (seen.drops === 0) assert.ok(state.limit >= Math.min(tried * 0.8, ceiling) - 1e-6)
        for (const usual of [state.stream, state.whole]) assert.ok(usual === null || usual.ms >= 0)
      })
    }),
  )
})
