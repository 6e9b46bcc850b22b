import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { LiveBook } from '../../src/queue/live-signals.ts'
import { LiveRouter } from '../../src/queue/live-router.ts'
import { Bench, rules, settled, type Asked } from './harness.ts'

const live = { hedges: true }
const hedging = { hedgeAfterMs: 500 }

/** A live call whose first instance is slow: it is under way on two of them. */
function startHedged(bench: Bench) {
  const caller = bench.call(live)
  assert.equal(bench.asked.length, 1)
  bench.clock.advance(500)
  assert.equal(bench.asked.length, 2)
  const [first, second] = bench.asked as [Asked, Asked]
  assert.notEqual(first.id, second.id)
  return { caller, first, second }
}

function assertQuiet(bench: Bench): void {
  assert.deepEqual([bench.inFlight, bench.waitingBytes], [0, 0])
}

describe('a hedge', () => {
  it('answers from the second instance when that is faster, and cuts the first before a byte goes out', async () => {
    const bench = new Bench(['a', 'b'], hedging)
    const { caller, first, second } = startHedged(bench)
    assert.equal(bench.inFlight, 2)
    second.begin()
    assert.ok(first.isCut)
    assert.deepEqual([bench.instance(first.id).inFlight, bench.instance(second.id).inFlight], [0, 1])
    first.begin()
    second.done()
    await caller.over
    assert.equal(caller.outcome, second.id)
    assert.ok(!caller.text.includes(`"content":"${first.id}"`))
    assert.deepEqual([caller.heads.length, caller.ends, caller.heads[0]?.attempts], [1, 1, 2])
    assert.deepEqual([bench.router.counts.hedges, bench.router.counts.hedgeWins, bench.router.counts.retries], [1, 1, 0]) // prettier-ignore
    assertQuiet(bench)
  })

  it('is cut when the first instance begins after all', async () => {
    const bench = new Bench(['a', 'b'], hedging)
    const { caller, first, second } = startHedged(bench)
    first.answer()
    assert.ok(second.isCut)
    second.answer()
    await caller.over
    assert.equal(caller.text, JSON.stringify({ from: first.id }))
    assert.deepEqual([caller.heads.length, caller.ends, caller.heads[0]?.attempts], [1, 1, 2])
    assert.deepEqual([bench.router.counts.hedges, bench.router.counts.hedgeWins], [1, 0])
    assertQuiet(bench)
  })

  it('does not come before its time, nor once the answer has begun', async () => {
    const bench = new Bench(['a', 'b'], hedging)
    const caller = bench.call(live)
    bench.clock.advance(499)
    assert.equal(bench.asked.length, 1)
    bench.asked[0]?.begin()
    bench.clock.advance(5_000)
    assert.equal(bench.asked.length, 1)
    bench.asked[0]?.done()
    await caller.over
    assertQuiet(bench)
  })

  const reasons: Record<string, { bench: () => Bench; options?: { hedges: boolean } }> = {
    'when it is off': { bench: () => new Bench(['a', 'b']), options: live },
    'for a task': { bench: () => new Bench(['a', 'b'], hedging) },
    'without another instance': { bench: () => new Bench(['a'], hedging), options: live },
    'on a fallback': {
      bench: () => new Bench({ m: ['a'], n: ['b'] }, { ...hedging, fallbacks: { m: ['n'] } }),
      options: live,
    },
    'beyond the attempts allowed': {
      bench: () => new Bench(['a', 'b'], { ...hedging, attemptsMax: 1 }),
      options: live,
    },
    'without budget': { bench: () => new Bench(['a', 'b'], { ...hedging, retryReserve: 0 }), options: live },
  }
  for (const [name, { bench: make, options }] of Object.entries(reasons)) {
    it(`is not made ${name}`, async () => {
      const bench = make()
      const caller = bench.call(options)
      bench.clock.advance(5_000)
      assert.equal(bench.asked.length, 1)
      bench.asked[0]?.answer()
      await caller.over
      assert.equal(caller.outcome, 'a')
      const { hedges, hedgesRefused } = bench.router.counts
      assert.deepEqual([hedges, hedgesRefused], [0, name === 'without budget' ? 1 : 0])
      assertQuiet(bench)
    })
  }

  it('takes from the same budget as retries', async () => {
    const bench = new Bench(['a', 'b', 'c'], { ...hedging, retryReserve: 1, retryRatio: 0 })
    const { caller, first, second } = startHedged(bench)
    first.drop()
    second.drop()
    await caller.over
    assert.deepEqual([caller.outcome, bench.asked.length, bench.router.counts.retriesRefused], ['upstream_failed', 2, 1]) // prettier-ignore
  })

  for (const order of ['first', 'second'] as const) {
    it(`that is alone after the ${order} has failed brings the answer, and no third is begun`, async () => {
      const bench = new Bench(['a', 'b', 'c'], hedging)
      const { caller, first, second } = startHedged(bench)
      const [fails, answers] = order === 'first' ? [first, second] : [second, first]
      fails.status(500)
      await settled()
      assert.deepEqual([bench.asked.length, answers.isCut, bench.inFlight], [2, false, 1])
      bench.clock.advance(2_000)
      answers.answer()
      await caller.over
      assert.equal(caller.outcome, answers.id)
      assert.equal(bench.router.counts.retries, 0)
      assertQuiet(bench)
    })
  }

  it('and the first both failing is a failed try: a third instance gets the call', async () => {
    const bench = new Bench(['a', 'b', 'c'], hedging)
    const { caller, first, second } = startHedged(bench)
    second.drop()
    first.status(503)
    await settled()
    assert.equal(bench.asked.length, 3)
    bench.clock.advance(1_000)
    assert.equal(bench.asked.length, 3, 'three attempts are all that is allowed')
    bench.asked[2]?.answer()
    await caller.over
    assert.deepEqual([caller.outcome, caller.heads[0]?.attempts], [bench.asked[2]?.id, 3])
    assertQuiet(bench)
  })

  it('follows a retry that is slow', async () => {
    const bench = new Bench(['a', 'b', 'c'], hedging)
    const caller = bench.call(live)
    bench.asked[0]?.drop()
    await settled()
    bench.clock.advance(500)
    assert.equal(bench.asked.length, 3)
    bench.asked[2]?.answer()
    await caller.over
    assert.ok(bench.asked[1]?.isCut)
    assert.deepEqual([bench.router.counts.retries, bench.router.counts.hedges], [1, 1])
    assertQuiet(bench)
  })

  it('ends with its caller, both at once', async () => {
    const bench = new Bench(['a', 'b'], hedging)
    const { caller, first, second } = startHedged(bench)
    caller.controller.abort()
    assert.deepEqual([first.isCut, second.isCut], [true, true])
    assertQuiet(bench)
    await caller.over
    assert.deepEqual([caller.outcome, caller.heads.length], ['client_closed', 0])
    assert.equal(bench.router.counts.hedgeWins, 0)
  })

  for (const told of ['as a 4xx', 'inside a 200'] as const) {
    it(`ends with the caller's own mistake, told ${told}, by whichever instance`, async () => {
      const bench = new Bench(['a', 'b'], hedging)
      const { caller, first, second } = startHedged(bench)
      if (told === 'as a 4xx') second.status(422)
      else second.status(200, {}, '{"error":{"message":"too long","code":400}}')
      await caller.over
      assert.ok(first.isCut)
      assert.equal(caller.error?.status ?? caller.heads[0]?.status, told === 'as a 4xx' ? 422 : 400)
      assertQuiet(bench)
    })
  }

  it('ends at the time limits: each attempt has its own', async () => {
    const bench = new Bench(['a', 'b'], { ...hedging, firstByteMs: 2_000 })
    const { caller, first, second } = startHedged(bench)
    bench.clock.advance(1_500)
    await settled()
    assert.deepEqual([first.isCut, second.isCut], [true, false])
    bench.clock.advance(500)
    await caller.over
    assert.deepEqual([second.isCut, caller.outcome], [true, 'upstream_timeout'])
    assertQuiet(bench)
  })

  it('says nothing against the loser, unless it was slow for its breaker', async () => {
    for (const breakerSlowMs of [0, 500, 501]) {
      const bench = new Bench(['a', 'b'], { ...hedging, health: { ...rules.health, breakerSlowMs } })
      for (let i = 0; i < 8; i += 1) {
        const from = bench.asked.length
        const caller = bench.call(live)
        if (bench.asked.at(-1)?.id === 'a') bench.clock.advance(500)
        bench.asked.at(-1)?.answer()
        await caller.over
        assert.equal(caller.outcome, 'b')
        assert.ok(bench.asked.length <= from + 2)
      }
      const { breaker, failuresConsecutive } = bench.instance('a')
      assert.deepEqual([breaker.state, failuresConsecutive], [breakerSlowMs === 500 ? 'open' : 'closed', 0])
    }
  })

  it('on a half-open instance gives its trial back when it loses', async () => {
    const bench = new Bench(['a', 'b'], hedging)
    for (let i = 0; bench.instance('a').breaker.state === 'closed' && i < 20; i += 1) {
      await bench.through((asked) => (asked.id === 'a' ? asked.drop() : asked.answer()))
    }
    bench.clock.advance(5_000)
    bench.asked.length = 0
    let caller = bench.call(live)
    if (bench.asked[0]?.id === 'a') {
      caller.controller.abort()
      await caller.over
      bench.asked.length = 0
      caller = bench.call(live)
    }
    bench.clock.advance(500)
    const { breaker } = bench.instance('a')
    assert.deepEqual([bench.asked.map(({ id }) => id), breaker.allows(bench.clock.now())], [['b', 'a'], false]) // prettier-ignore
    bench.asked[0]?.answer()
    await caller.over
    assert.deepEqual([breaker.state, breaker.allows(bench.clock.now())], ['half_open', true])
    assertQuiet(bench)
  })

  it('is asked for by the door of live requests', async () => {
    const bench = new Bench(['a', 'b'], hedging)
    const seen: unknown[] = []
    const router = new LiveRouter({
      router: {
        aliases: {},
        resolve: (name) => name,
        run: (_call, _sink, _signal, options) => {
          seen.push(options)
          return Promise.resolve()
        },
      },
      live: new LiveBook(bench.clock),
      clock: bench.clock,
    })
    const sink = { head: () => {}, data: () => true, end: () => {} }
    await router.run({ model: 'm' } as never, sink, new AbortController().signal)
    assert.deepEqual(seen, [live])
  })
})
