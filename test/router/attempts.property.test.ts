import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import fc from 'fast-check'
import { Bench, rules, settled, type Asked, type Caller } from './harness.ts'

/** What happens next: to a caller, to a request at an instance, or to the time. `at` picks which one. */
type Step =
  | { kind: 'call'; live: boolean }
  | { kind: 'leave' | 'answer' | 'begin' | 'event' | 'done' | 'drop' | 'garbage'; at: number }
  | { kind: 'status'; at: number; status: number }
  | { kind: 'advance'; ms: number }

const at = fc.nat({ max: 999 })
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('call' as const), live: fc.boolean() }) },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constantFrom('leave', 'answer', 'begin', 'event', 'done', 'drop', 'garbage'),
      at,
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('status' as const), at, status: fc.constantFrom(500, 502, 503, 429, 422) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('advance' as const), ms: fc.constantFrom(50, 100, 500, 1_000, 5_000) }) },
) // prettier-ignore

/** The instance's side of a request: what it may still say. */
type Wire = { asked: Asked; phase: 'waiting' | 'streaming' | 'over' }

function act(wire: Wire, step: Exclude<Step, { kind: 'call' | 'leave' | 'advance' }>): void {
  const { asked } = wire
  if (wire.phase === 'over') return
  if (step.kind === 'drop') {
    wire.phase = 'over'
    return asked.drop()
  }
  if (wire.phase === 'streaming') {
    if (step.kind === 'event') asked.event()
    if (step.kind !== 'done') return
    wire.phase = 'over'
    return asked.done()
  }
  if (step.kind === 'event' || step.kind === 'done') return
  wire.phase = step.kind === 'begin' ? 'streaming' : 'over'
  if (step.kind === 'begin') asked.begin()
  else if (step.kind === 'answer') asked.answer()
  else if (step.kind === 'garbage') asked.status(200, {}, '<html>')
  else if (step.kind === 'status') asked.status(step.status, { 'retry-after': '0' })
}

/** One head at most, nothing before it, nothing after the end, and all of it from one instance. */
function assertOneAnswer({ heads, ends, text, error }: Caller): void {
  assert.ok(heads.length <= 1 && ends <= 1, 'doubled')
  if (heads.length === 0) assert.equal(text, '', 'data before the head')
  if (error === null) assert.deepEqual([heads.length, ends], [1, 1])
  else assert.equal(ends, 0, 'an end and an error')
  const from = new Set([...text.matchAll(/"(?:content|from)":"(\w)"/g)].map((match) => match[1]))
  assert.ok(from.size <= 1, `text of ${[...from].join()}`)
  const head = heads[0]
  if (head && from.size === 1) assert.ok(from.has(head.instance.id), 'text of another than the head says')
  if (head) assert.ok(head.attempts <= rules.attemptsMax)
}

test('over random answers, failures, aborts, hedges and retries each caller gets one answer, and nothing stays behind', async () => {
  let hedges = 0
  let wins = 0
  let trips = 0
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 120 }), async (steps) => {
      const bench = new Bench(['a', 'b', 'c', 'd'], {
        hedgeAfterMs: 100,
        firstByteMs: 2_000,
        idleMs: 2_000,
        health: { ...rules.health, ejectAfterFailures: 4, ejectBaseMs: 500, breakerOpenMs: 500, breakerSlowMs: 1_000 },
      }) // prettier-ignore
      const callers: Caller[] = []
      const wires: Wire[] = []
      const look = async () => {
        await settled()
        for (const asked of bench.asked.slice(wires.length)) wires.push({ asked, phase: 'waiting' })
        for (const wire of wires) if (wire.asked.isCut) wire.phase = 'over'
        const open = wires.filter(({ phase }) => phase !== 'over').length
        assert.equal(bench.inFlight, open, 'in flight is what instances work on')
      }
      for (const next of steps) {
        if (next.kind === 'call') callers.push(bench.call(next.live ? { hedges: true } : undefined))
        else if (next.kind === 'advance') bench.clock.advance(next.ms)
        else if (next.kind === 'leave') callers[next.at % callers.length]?.controller.abort()
        else {
          const open = wires.filter(({ phase }) => phase !== 'over')
          const wire = open[next.at % open.length]
          if (wire) act(wire, next)
        }
        await look()
      }
      for (const { controller } of callers) controller.abort()
      await Promise.all(callers.map(({ over }) => over))
      await look()
      for (const caller of callers) assertOneAnswer(caller)
      assert.deepEqual([bench.inFlight, bench.waitingBytes], [0, 0])
      const { counts, health } = bench.router
      assert.ok(counts.hedgeWins <= counts.hedges)
      hedges += counts.hedges
      wins += counts.hedgeWins
      // No trial is left with somebody who is gone.
      bench.clock.advance(100_000)
      for (const { breaker } of [...bench.registry.all, { breaker: health.breakerOf('m') }]) {
        trips += breaker.entries.open
        assert.ok(breaker.allows(bench.clock.now()), `${breaker.state} for ever`)
      }
      assert.equal((await bench.through((asked) => asked.answer())).error, null)
    }),
    { numRuns: 150, seed: 20_261_123 },
  )
  assert.ok(hedges > 100 && wins > 20 && trips > 20, `too little happened: ${hedges}, ${wins}, ${trips}`)
})
