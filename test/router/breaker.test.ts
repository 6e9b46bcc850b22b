import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { answer, Bench, breakDown, rules, settled, type Asked } from './harness.ts'

const alone = { attemptsMax: 1 }

/** `bad` breaks down, the others answer. */
const except = (bad: string) => (asked: Asked) => (asked.id === bad ? breakDown(asked) : answer(asked))

/** Opens the breaker of a by two failures and two successes; it is half of the calls that `a` gets. */
async function openBreakerOf(bench: Bench, id = 'a'): Promise<void> {
  for (let i = 0; bench.instance(id).breaker.state === 'closed'; i += 1) {
    assert.ok(i < 50, 'the breaker does not open')
    await bench.through(except(id))
  }
}

describe('the breaker of an instance', () => {
  it('takes one that fails half of its calls out of the traffic, which ejection never sees', async () => {
    const bench = new Bench(['a', 'b'], { ...alone, health: { ...rules.health, ejectAfterFailures: 2 } })
    let turn = 0
    const half = (asked: Asked) =>
      asked.id === 'a' && (turn += 1) % 2 === 0 ? breakDown(asked) : answer(asked)
    for (let i = 0; i < 8; i += 1) await bench.through(half)
    const a = bench.instance('a')
    assert.deepEqual([a.breaker.state, a.ejections, a.isAvailable(0)], ['open', 0, false])
    bench.asked.length = 0
    for (let i = 0; i < 10; i += 1) await bench.through(answer)
    assert.deepEqual(new Set(bench.asked.map(({ id }) => id)), new Set(['b']))
  })

  it('opens for exactly its time, then lets one call through at a time; an answer closes it', async () => {
    const bench = new Bench(['a', 'b'], alone)
    await openBreakerOf(bench)
    const { breaker } = bench.instance('a')
    bench.clock.advance(4_999)
    bench.asked.length = 0
    for (let i = 0; i < 4; i += 1) await bench.through(answer)
    assert.ok(bench.asked.every(({ id }) => id === 'b'))
    bench.clock.advance(1)
    const callers = [1, 2, 3, 4].map(() => bench.call())
    const trials = bench.asked.filter(({ id }) => id === 'a')
    assert.deepEqual([trials.length, breaker.state], [1, 'half_open'])
    trials[0]?.begin()
    assert.equal(breaker.state, 'closed', 'the begin of an answer is enough: streams are long')
    trials[0]?.done()
    for (const asked of bench.asked) if (asked.id === 'b' && !asked.isCut) asked.answer()
    await Promise.all(callers.map(({ over }) => over))
    assert.equal(bench.inFlight, 0)
  })

  it('opens for twice as long when the trial fails', async () => {
    const bench = new Bench(['a', 'b'], alone)
    await openBreakerOf(bench)
    const { breaker } = bench.instance('a')
    bench.clock.advance(5_000)
    while (breaker.state === 'open' && breaker.waitMs(bench.clock.now()) === 0)
      await bench.through(except('a'))
    assert.deepEqual([breaker.state, breaker.waitMs(bench.clock.now())], ['open', 10_000])
  })

  const silences: Record<string, (asked: Asked, leave: () => void) => void> = {
    'whose caller leaves': (_asked, leave) => leave(),
    'that finds the instance busy': (asked) => asked.status(503, { 'retry-after': '0' }),
    'that is limited': (asked) => asked.status(429, { 'retry-after': '0' }),
  }
  for (const [name, end] of Object.entries(silences)) {
    it(`gives the trial to the next call after one ${name}`, async () => {
      const bench = new Bench(['a', 'b'], alone)
      await openBreakerOf(bench)
      const a = bench.instance('a')
      bench.clock.advance(5_000)
      for (let i = 0; i < 3; i += 1) {
        let caller = bench.call()
        for (let tries = 0; bench.asked.at(-1)?.id !== 'a'; tries += 1) {
          assert.ok(tries < 5, 'no trial is given any more')
          bench.asked.at(-1)?.answer()
          await caller.over
          caller = bench.call()
        }
        assert.equal(a.breaker.allows(bench.clock.now()), false)
        end(bench.asked.at(-1) as Asked, () => caller.controller.abort())
        await caller.over
        assert.deepEqual([a.breaker.state, a.breaker.allows(bench.clock.now()), a.inFlight], ['half_open', true, 0]) // prettier-ignore
        bench.clock.advance(1_000)
      }
    })
  }

  it('opens on an instance that hangs', async () => {
    const bench = new Bench(['a', 'b'], { ...alone, firstByteMs: 1_000 })
    for (let i = 0; i < 8; i += 1) {
      const caller = bench.call()
      if (bench.asked.at(-1)?.id === 'b') bench.asked.at(-1)?.answer()
      else bench.clock.advance(1_050)
      await caller.over
      assert.ok(['upstream_timeout', 'b'].includes(caller.outcome), caller.outcome)
    }
    assert.equal(bench.instance('a').breaker.state, 'open')
    assert.ok(bench.asked.filter(({ id }) => id === 'a').every(({ isCut }) => isCut))
    assert.equal(bench.inFlight, 0)
  })

  const harmless: Record<string, (asked: Asked, leave: () => void) => void> = {
    'what the caller did wrong': (asked) => asked.status(422),
    'what the caller did wrong, told in a 200': (asked) =>
      asked.status(200, {}, '{"error":{"message":"too long","code":400}}'),
    'being busy': (asked) => asked.status(503, { 'retry-after': '0' }),
    'a limit': (asked) => asked.status(429, { 'retry-after': '0' }),
    'a caller that leaves': (_asked, leave) => leave(),
  }
  for (const [name, react] of Object.entries(harmless)) {
    it(`does not count ${name}`, async () => {
      const bench = new Bench(['a', 'b'], { ...alone, health: { ...rules.health, breakerShare: 0.01 } })
      for (let i = 0; i < 20; i += 1) {
        const caller = bench.call()
        react(bench.asked.at(-1) as Asked, () => caller.controller.abort())
        await caller.over
      }
      for (const id of ['a', 'b']) assert.equal(bench.instance(id).breaker.entries.open, 0)
      assert.equal(bench.router.health.breakerOf('m').entries.open, 0)
    })
  }

  it('counts streams that break off in the middle, each once', async () => {
    const bench = new Bench(['a', 'b'], { ...alone, health: { ...rules.health, breakerShare: 0.9 } })
    const { breaker } = bench.instance('a')
    let broken = 0
    while (breaker.state === 'closed') {
      await bench.through((asked) => {
        asked.begin()
        if (asked.id !== 'a') return asked.done()
        broken += 1
        return asked.drop()
      })
    }
    assert.equal(broken, rules.health.breakerCallsMin)
  })

  it('counts a slow begin where that is switched on, also of a call that is given up before', async () => {
    const health = { ...rules.health, breakerSlowMs: 2_000 }
    for (const slow of ['answer', 'leave'] as const) {
      const bench = new Bench(['a', 'b', 'c'], { ...alone, health })
      for (let i = 0; i < 12; i += 1) {
        const caller = bench.call()
        if (bench.asked.at(-1)?.id === 'a') {
          bench.clock.advance(2_000)
          if (slow === 'leave') caller.controller.abort()
        }
        bench.asked.at(-1)?.answer()
        await caller.over
      }
      assert.equal(bench.instance('a').breaker.state, 'open', slow)
    }
  })

  it('stays closed when all are slow: that is the load', async () => {
    const bench = new Bench(['a', 'b', 'c', 'd'], {
      ...alone,
      health: { ...rules.health, breakerSlowMs: 500 },
    })
    for (let i = 0; i < 40; i += 1) {
      const callers = [1, 2, 3, 4].map(() => bench.call())
      bench.clock.advance(500)
      for (const asked of bench.asked.splice(0)) asked.answer()
      await Promise.all(callers.map(({ over }) => over))
    }
    assert.ok(bench.registry.all.every(({ breaker }) => breaker.state === 'closed'))
  })

  it('leaves a single instance its traffic, and no more than the share is out', async () => {
    for (const [ids, outMax] of [[['a'], 0], [['a', 'b'], 1], [['a', 'b', 'c'], 1], [['a', 'b', 'c', 'd'], 2]] as const) {
      const bench = new Bench(ids, { ...alone, health: { ...rules.health, breakerShare: 0.4 } })
      let turn = 0
      for (let i = 0; i < 60; i += 1) {
        await bench.through((asked) => ((turn += 1) % 5 < 2 ? answer(asked) : breakDown(asked)))
      }
      const out = bench.registry.all.filter(({ breaker }) => breaker.state !== 'closed').length
      assert.equal(out, outMax, ids.join())
    } // prettier-ignore
  })

  it('is passed over when nobody else is left, and as soon as somebody is, it is not', async () => {
    const bench = new Bench(['a', 'b'], alone)
    await openBreakerOf(bench)
    bench.registry.move(bench.instance('b'), 'unready')
    assert.equal((await bench.through(answer)).outcome, 'a')
    assert.equal(bench.instance('a').breaker.state, 'open', 'what passes in spite of it is no trial')
    bench.registry.move(bench.instance('b'), 'ready')
    for (let i = 0; i < 4; i += 1) assert.equal((await bench.through(answer)).outcome, 'b')
    // Full or busy is not away.
    bench.instance('b').busyUntilMs = bench.clock.now() + 1_000
    assert.equal((await bench.through(answer)).outcome, 'no_instance')
  })

  it('and ejection never hold an instance together', async () => {
    const bench = new Bench(['a', 'b', 'c', 'd'], {
      ...alone,
      health: { ...rules.health, ejectAfterFailures: 3 },
    })
    const a = bench.instance('a')
    for (let i = 0; i < 40; i += 1) await bench.through(except('a'))
    assert.deepEqual([a.ejections, a.breaker.entries.open], [1, 0], 'in a row: ejected')

    const other = new Bench(['a', 'b'], alone)
    await openBreakerOf(other)
    const held = other.instance('a')
    assert.deepEqual([held.ejections, held.failuresConsecutive], [0, 0])
    other.clock.advance(5_000)
    while (held.breaker.entries.open < 2) await other.through(except('a'))
    assert.deepEqual(
      [held.ejections, held.failuresConsecutive],
      [0, 0],
      'a failed trial is the breaker’s alone',
    )
  })
})

describe('the breaker of a model', () => {
  const openModel = async (bench: Bench, model = 'm') => {
    const breaker = bench.router.health.breakerOf(model)
    for (let i = 0; breaker.state === 'closed'; i += 1) {
      assert.ok(i < 50, 'the breaker does not open')
      await bench.through(breakDown, undefined, model)
    }
    return breaker
  }

  it('refuses at once while nearly all calls fail, and says when to come again', async () => {
    const bench = new Bench(['a', 'b'])
    await openModel(bench)
    bench.clock.advance(1_500)
    bench.asked.length = 0
    const refused = await bench.through(answer)
    assert.deepEqual([refused.error?.code, refused.error?.status, refused.error?.retryAfterMs], ['circuit_open', 503, 3_500]) // prettier-ignore
    assert.equal(bench.asked.length, 0)
  })

  it('counts calls, not attempts: one that another instance answers has not failed', async () => {
    const bench = new Bench(['a', 'b'], { health: { ...rules.health, ejectShareMax: 0 } })
    for (let i = 0; i < 40; i += 1) await bench.through(except('a'))
    assert.equal(bench.router.health.breakerOf('m').state, 'closed')
  })

  it('stays closed below nine in ten', async () => {
    const bench = new Bench(['a'])
    for (let i = 0; i < 50; i += 1) await bench.through(i % 5 === 0 ? answer : breakDown)
    assert.equal(bench.router.health.breakerOf('m').state, 'closed')
  })

  it('lets a single call through after its time; an answer closes it for all', async () => {
    const bench = new Bench(['a', 'b'])
    const breaker = await openModel(bench)
    bench.clock.advance(5_000)
    const trial = bench.call()
    const second = await bench.through(answer)
    assert.deepEqual([second.outcome, second.error?.retryAfterMs], ['circuit_open', 1_000])
    bench.asked.at(-1)?.begin()
    assert.equal(breaker.state, 'closed')
    assert.ok(['a', 'b'].includes((await bench.through(answer)).outcome))
    bench.asked.at(-2)?.done()
    await trial.over
    assert.equal(bench.inFlight, 0)
  })

  it('opens for longer when the trial fails on all instances, which it may try', async () => {
    const bench = new Bench(['a', 'b'])
    const breaker = await openModel(bench)
    bench.clock.advance(5_000)
    bench.asked.length = 0
    assert.equal((await bench.through(breakDown)).outcome, 'upstream_failed')
    assert.deepEqual(
      [bench.asked.length, breaker.state, breaker.waitMs(bench.clock.now())],
      [2, 'open', 10_000],
    )
  })

  it('gives the trial to the next call when its caller leaves, before or between attempts', async () => {
    const bench = new Bench(['a', 'b'])
    const breaker = await openModel(bench)
    bench.clock.advance(5_000)
    for (const hasFailedOnce of [false, true, false, true]) {
      const trial = bench.call()
      if (hasFailedOnce) {
        bench.asked.at(-1)?.drop()
        await settled()
      }
      assert.equal(breaker.allows(bench.clock.now()), false)
      trial.controller.abort()
      await trial.over
      assert.deepEqual([trial.outcome, breaker.state, breaker.allows(bench.clock.now())], ['client_closed', 'half_open', true]) // prettier-ignore
    }
    assert.equal(bench.inFlight, 0)
  })

  it('ends the retries of calls that were under way when it opened', async () => {
    const bench = new Bench(['a', 'b'])
    const early = bench.call()
    const first = bench.asked.at(-1) as Asked
    await openModel(bench)
    const before = bench.asked.length
    first.drop()
    await early.over
    assert.deepEqual([early.outcome, bench.asked.length], ['upstream_failed', before])
  })

  it('sends calls to the fallback without trying', async () => {
    const bench = new Bench({ m: ['a'], n: ['b'] }, { fallbacks: { m: ['n'] } })
    for (let i = 0; i < 6; i += 1) assert.equal((await bench.through(except('a'))).outcome, 'b')
    assert.equal(bench.router.health.breakerOf('m').state, 'open')
    assert.equal(bench.router.health.breakerOf('n').state, 'closed')
    bench.asked.length = 0
    await bench.through(answer)
    assert.deepEqual(bench.asked.map(({ id }) => id), ['b']) // prettier-ignore
  })
})
