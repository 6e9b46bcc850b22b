import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import fc from 'fast-check'
import { fail } from '../../src/core/errors.ts'
import { backoffMs } from '../../src/queue/backoff.ts'
import { AgedTurns, estimateCost } from '../../src/queue/order.ts'
import { judgeAttempt } from '../../src/queue/outcome.ts'
import { groupPools } from '../../src/queue/pools.ts'
import type { Work } from '../../src/queue/task.ts'

const chat = (body: object): Work => ({ endpoint: '/v1/chat/completions', body: { ...body } })

test('cost is estimated tokens by weight', () => {
  const prompt = 'x'.repeat(400)
  const cost = (body: object, weight = 1) =>
    estimateCost({ endpoint: '/v1/completions', body: { prompt, ...body } }, weight)
  assert.equal(cost({}), 100 + 256)
  assert.equal(cost({ max_tokens: 50 }), 150)
  assert.equal(cost({ max_tokens: 50, n: 3 }), 250)
  assert.equal(cost({ max_tokens: 50, max_completion_tokens: 10 }), 110)
  assert.equal(cost({ max_tokens: 50 }, 4), 37.5)
  assert.equal(estimateCost({ endpoint: '/v1/embeddings', body: { input: prompt } }, 1), 100)
  assert.equal(estimateCost({ endpoint: '/v1/embeddings', body: { input: '' } }, 2), 0.5)
  const steps = [1, 2].map((n) => ({
    name: `s${n}`,
    endpoint: '/v1/completions' as const,
    body: { prompt, max_tokens: n },
  }))
  assert.equal(estimateCost({ endpoint: 'sequence', steps }, 1), 203)
})

test('whatever a body holds, its cost is a positive number', () => {
  fc.assert(
    fc.property(
      fc.dictionary(
        fc.constantFrom('messages', 'prompt', 'input', 'n', 'max_tokens', 'instructions'),
        fc.jsonValue(),
      ),
      fc.double({ min: 0.001, max: 1000, noNaN: true }),
      (body, weight) => {
        const cost = estimateCost(chat(body), weight)
        assert(Number.isFinite(cost) && cost >= 1 / weight, `${cost}`)
      },
    ),
  )
})

test('over any claims, aged bands get no more than every fourth turn, and no less where they could', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 50 }), (limits) => {
      const turns = new AgedTurns()
      let claimed = 0
      let aged = 0
      for (const limit of limits) {
        const slots = turns.slots(limit)
        assert(slots <= limit)
        claimed += limit
        aged += slots
        turns.note(limit, slots)
        assert.equal(aged, Math.floor(claimed / 4))
      }
    }),
  )
})

test('turns that find nothing to claim are not saved up', () => {
  const turns = new AgedTurns()
  for (let i = 0; i < 100; i += 1) turns.note(0, turns.slots(1))
  assert.equal(turns.slots(1), 0)
  for (let i = 0; i < 3; i += 1) turns.note(1, turns.slots(1))
  assert.equal(turns.slots(1), 1)
})

test('the delay between attempts doubles up to its limit, is drawn from the whole range, and never undercuts Retry-After', () => {
  const rules = { delayMs: 1_000, delayMaxMs: 60_000 }
  const at = (attempt: number, random: number, retryAfterMs: number | null = null) =>
    backoffMs({ attempt, retryAfterMs }, rules, () => random)
  assert.deepEqual(
    [1, 2, 3, 4, 99].map((attempt) => at(attempt, 1)),
    [1_000, 2_000, 4_000, 8_000, 60_000],
  )
  assert.equal(at(3, 0), 0)
  assert.equal(at(1, 0.5, 90_000), 90_000)
  assert.equal(at(5, 1, 90), 16_000)
})

test('what follows from a failed attempt', () => {
  const rules = { delayMs: 1_000, delayMaxMs: 60_000 }
  const judge = (error: Parameters<typeof fail>, more: object = {}) =>
    judgeAttempt(
      { error: fail(...error), attempt: 1, attemptsMax: 3, deadlineMs: null, nowMs: 5_000, ...more },
      rules,
      () => 1,
    )
  assert.deepEqual(judge(['upstream_failed', { message: 'x' }]), {
    kind: 'retry',
    error: { code: 'upstream_failed', message: 'x' },
    runAtMs: 6_000,
  })
  assert.equal(judge(['upstream_failed'], { attempt: 3 }).kind, 'dead')
  assert.equal(judge(['model_not_found']).kind, 'dead')
  assert.equal(judge(['shutting_down']).kind, 'released')
  assert.equal(judge(['shutting_down'], { attempt: 3 }).kind, 'released')
  // Nobody here has ended it: given back at once it would come again at once, without end.
  assert.equal(judge(['client_closed']).kind, 'retry')
  const late = judge(['rate_limited', { retryAfterMs: 60_000 }], { deadlineMs: 9_000 })
  assert(late.kind === 'retry')
  assert.equal(late.runAtMs, 9_000)
})

test('models that share an instance share its slots, however indirectly', () => {
  const member = (models: string[], slots: number, inFlight = 0, available = true) => ({
    models,
    slots,
    inFlight,
    available,
  })
  const pools = groupPools([
    member(['a', 'b'], 4, 1),
    member(['b', 'c'], 2, 1, false),
    member(['d'], 8, 3),
    member([], 100),
    member(['c'], 1),
  ])
  assert.equal(pools.get('a'), pools.get('c'))
  assert.deepEqual(pools.get('b'), { models: ['a', 'b', 'c'], capacity: 5, inFlight: 2 })
  assert.deepEqual(pools.get('d'), { models: ['d'], capacity: 8, inFlight: 3 })
  assert.equal(pools.size, 4)
})
