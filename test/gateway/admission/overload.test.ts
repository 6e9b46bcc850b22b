import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import {
  admissionDefaults,
  drawArrivals,
  measureCapacity,
  merge,
} from '../../../bench/simulation/overload-load.ts'
import { seedRandom } from '../../../bench/simulation/random.ts'
import {
  simulateOverload,
  type Fate,
  type OverloadOptions,
  type OverloadRequest,
} from '../../../bench/simulation/simulate-overload.ts'
import { quantile } from '../../../bench/statistics.ts'

/** Four simulated engines behind the real door. Seeded: it goes the same way on every machine. */
const instances = 4
const capacity = measureCapacity({ random: seedRandom(1) }) * instances

const drawTier = (random: () => number) => {
  const drawn = random()
  return drawn < 0.1 ? 'priority' : drawn < 0.6 ? 'default' : 'flex'
}

/** Half of the capacity, five times the capacity from second 20 to 60, half of it again. */
function drawOverload(more: { streamed?: (random: () => number) => boolean } = {}): OverloadRequest[] {
  const random = seedRandom(2)
  const phase = (share: number, fromMs: number, toMs: number) =>
    drawArrivals({ perSecond: capacity * share, fromMs, toMs, random, tier: drawTier, ...more })
  return merge(phase(0.5, 0, 20_000), phase(5, 20_000, 60_000), phase(0.5, 60_000, 90_000))
}

const simulate = (requests: readonly OverloadRequest[], more: Partial<OverloadOptions> = {}) =>
  simulateOverload({ requests, instances, admission: admissionDefaults, random: seedRandom(3), ...more })

const answered = (fates: readonly Fate[]) => fates.filter(({ outcome }) => outcome === 'answered')
const ttfts = (fates: readonly Fate[]) => answered(fates).map(({ ttftMs }) => ttftMs)
const arrivedIn = (fates: readonly Fate[], fromMs: number, toMs: number) =>
  fates.filter(({ request: { atMs } }) => atMs >= fromMs && atMs < toMs)
const refusedShare = (fates: readonly Fate[]) => 1 - answered(fates).length / fates.length

/** Answers a second as a share of the capacity, from 5 s into the overload to its end. */
const goodput = (fates: readonly Fate[]) =>
  answered(fates).filter(({ endedAtMs }) => endedAtMs >= 25_000 && endedAtMs < 60_000).length / 35 / capacity

test('five times the capacity, with a target: goodput stays, the admitted are in time, low bands go first, and it is over at once', async () => {
  const admission = { ...admissionDefaults, ttftTargetMs: 2_000 }
  const fates = await simulate(drawOverload(), { admission })
  assert.ok(goodput(fates) >= 0.9, `goodput ${goodput(fates)}`)
  const during = arrivedIn(fates, 20_000, 60_000)
  assert.ok(quantile(ttfts(during), 0.99) <= 2_000, `p99 ${quantile(ttfts(during), 0.99)}`)

  const of = (tier: string) => refusedShare(during.filter(({ request }) => request.tier === tier))
  assert.ok(of('priority') < 0.03, `priority ${of('priority')}`)
  assert.ok(of('default') < of('flex') && of('flex') > 0.8, `default ${of('default')}, flex ${of('flex')}`)

  const before = quantile(ttfts(arrivedIn(fates, 5_000, 20_000)), 0.99)
  const after = arrivedIn(fates, 70_000, 90_000)
  assert.equal(refusedShare(after), 0)
  assert.ok(quantile(ttfts(after), 0.99) < before * 1.5, `${quantile(ttfts(after), 0.99)}, before ${before}`)
})

test('the same with the defaults: goodput stays, nobody waits longer than allowed, and ten seconds later it is over', async () => {
  const fates = await simulate(drawOverload())
  assert.ok(goodput(fates) >= 0.9, `goodput ${goodput(fates)}`)
  // Once the line stands, waits are a quarter. Only the flexible wait for as long as they may.
  const standing = arrivedIn(fates, 35_000, 60_000).filter(({ request }) => request.tier !== 'flex')
  assert.ok(quantile(ttfts(standing), 0.99) < 3_500, `${quantile(ttfts(standing), 0.99)}`)
  const priority = fates.filter(({ request }) => request.tier === 'priority')
  assert.equal(refusedShare(priority), 0)
  assert.ok(quantile(ttfts(priority), 0.99) < 1_500)
  const after = arrivedIn(fates, 70_000, 90_000)
  assert.equal(refusedShare(after), 0)
  assert.ok(quantile(ttfts(after), 0.99) < 500, String(quantile(ttfts(after), 0.99)))
})

test('whole answers alone, and a fleet that says too little of itself: goodput stays', async () => {
  const whole = await simulate(drawOverload({ streamed: () => false }))
  assert.ok(goodput(whole) >= 0.9, `whole answers: ${goodput(whole)}`)
  assert.equal(refusedShare(arrivedIn(whole, 70_000, 90_000)), 0)
  const understated = await simulate(drawOverload(), { slotsTold: 32 })
  assert.ok(goodput(understated) >= 0.9, `understated: ${goodput(understated)}`)
})

test('a fleet that says too little of itself turns nobody away, with streams or with whole answers', async () => {
  for (const streamed of [true, false]) {
    const requests = drawArrivals({
      ...{ perSecond: capacity * 0.8, fromMs: 0, toMs: 40_000, random: seedRandom(2) },
      streamed: () => streamed,
    })
    // An eighth of the truth.
    const fates = await simulate(requests, { slotsTold: 16 })
    assert.equal(refusedShare(fates), 0)
  }
})

test('without it, the same load ends in answers for nobody', async () => {
  const requests = drawOverload()
  const fates = await simulate(requests, { admission: { ...admissionDefaults, enabled: false } })
  const inTime = arrivedIn(fates, 25_000, 60_000).filter(({ ttftMs }) => ttftMs <= 2_000)
  assert.ok(inTime.length < requests.length * 0.01, `${inTime.length}`)
})

test('a tenant at a hundred times its share does not move the p99 of another', async () => {
  const p99 = async (others: number) => {
    const all: number[] = []
    for (const seed of [1, 2]) {
      const tenant = (tenant: string, share: number, fromMs: number, toMs: number, offset: number) =>
        drawArrivals({ perSecond: capacity * share, fromMs, toMs, random: seedRandom(seed + offset), tenant })
      const requests = merge(
        tenant('warm-up', 0.5, 0, 15_000, 20),
        tenant('modest', 0.25, 15_000, 40_000, 0),
        tenant('greedy', others, 15_000, 40_000, 10),
      )
      const modest = (await simulate(requests)).filter(({ request }) => request.tenant === 'modest')
      assert.equal(refusedShare(modest), 0)
      all.push(...ttfts(arrivedIn(modest, 20_000, 40_000)))
    }
    return quantile(all, 0.99)
  }
  // Both fill the fleet: first with what is the other's share, then with a hundred times that.
  const [fair, greedy] = [await p99(0.75), await p99(50)]
  assert.ok(greedy <= fair * 1.1, `${greedy.toFixed(0)} ms beside ${fair.toFixed(0)} ms`)
})

test('tenants who all ask for too much share by their weights, whatever the size of what they ask', async () => {
  const random = seedRandom(5)
  const load = (tenant: string, weight: number, inputTokens: number, share: number) =>
    drawArrivals({
      ...{ perSecond: capacity * share, fromMs: 0, toMs: 60_000, random, tenant, weight },
      sizes: () => ({ inputTokens, outputTokens: 100 }),
    })
  const fates = await simulate(merge(load('a', 1, 100, 4), load('b', 1, 300, 4), load('c', 2, 100, 4)))
  const tokens = (name: string) =>
    answered(fates)
      .filter(({ request, endedAtMs }) => request.tenant === name && endedAtMs > 20_000 && endedAtMs < 60_000)
      .reduce((sum, { request }) => sum + request.inputTokens + request.outputTokens, 0)
  const [a, b, c] = [tokens('a'), tokens('b'), tokens('c')]
  assert.ok(Math.abs(b / a - 1) < 0.15, `b ${b / a} of a`)
  assert.ok(Math.abs(c / a - 2) < 0.3, `c ${c / a} of a`)
})

test('told deadlines: hardly an answer comes too late, and those refused learn it early', async () => {
  const random = seedRandom(6)
  const requests = drawArrivals({
    ...{ perSecond: capacity * 3, fromMs: 0, toMs: 40_000, random },
    ...{ patienceMs: 3_000, deadlineMs: 3_000 },
  })
  const told = arrivedIn(await simulate(requests), 10_000, 40_000)
  const untold = arrivedIn(
    await simulate(requests.map((request) => ({ ...request, deadlineMs: null }))),
    10_000,
    40_000,
  )
  const count = (fates: readonly Fate[], outcome: string) =>
    fates.filter((fate) => fate.outcome === outcome).length
  assert.ok(count(told, 'too_late') < told.length * 0.01, `${count(told, 'too_late')} of ${told.length}`)
  const late = (fates: readonly Fate[]) => count(fates, 'too_late') + count(fates, 'client_closed')
  assert.ok(late(told) < late(untold) / 2, `${late(told)} beside ${late(untold)}`)
  assert.ok(count(told, 'answered') >= count(untold, 'answered') * 0.95)
  const refused = told.filter(({ outcome }) => outcome === 'deadline_unreachable')
  assert.ok(refused.length > 0)
  const waited = refused.map(({ request, endedAtMs }) => endedAtMs - request.atMs)
  assert.ok(quantile(waited, 0.5) < 50, `${quantile(waited, 0.5)} ms`)
})

test('after overload, aborts and refusals nobody is left at the door, and nobody was let in beyond the limit', async () => {
  const random = seedRandom(7)
  const requests = merge(
    drawArrivals({
      perSecond: capacity * 4,
      fromMs: 0,
      toMs: 20_000,
      random,
      tier: drawTier,
      patienceMs: 700,
    }),
    drawArrivals({ perSecond: capacity, fromMs: 0, toMs: 25_000, random, tenant: 'b', deadlineMs: 900 }),
  )
  let last = { inFlight: -1, waiting: -1 }
  let limitBefore = 0
  let inFlightBefore = 0
  const fates = await simulate(requests, {
    watch: (admission) => {
      for (const { limit, inFlight, waiting } of admission.look()) {
        assert.ok(inFlight <= Math.max(limit, limitBefore, inFlightBefore), `${inFlight} of ${limit}`)
        limitBefore = limit
        inFlightBefore = inFlight
        last = { inFlight, waiting: waiting.priority + waiting.default + waiting.flex }
        assert.ok(last.waiting <= admissionDefaults.waitingMax)
      }
    },
  })
  assert.equal(fates.length, requests.length)
  assert.deepEqual(last, { inFlight: 0, waiting: 0 })
})
