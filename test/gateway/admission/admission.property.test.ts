import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import fc from 'fast-check'
import { fail } from '../../../src/core/errors.ts'
import { head, TestDoor, type Asked } from './door.ts'

const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('ask' as const),
      tenant: fc.constantFrom('a', 'b', 'c'),
      weight: fc.constantFrom(0.5, 1, 4),
      tier: fc.constantFrom('priority', 'default', 'flex'),
      tokens: fc.integer({ min: 0, max: 5_000 }),
      stream: fc.boolean(),
      deadlineInMs: fc.option(fc.integer({ min: -100, max: 8_000 })),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constantFrom('head', 'answer', 'fail', 'overload', 'down', 'abort'),
      which: fc.nat(50),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('pass'), ms: fc.integer({ min: 0, max: 3_000 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('fleet'), slots: fc.nat(6) }) },
)

test('whatever comes, goes and fails: never above the limits, everybody hears, and all ends at zero', async () => {
  const setting = fc.record({
    waitingMax: fc.nat(6),
    waitMaxMs: fc.constantFrom(1, 300, 5_000),
    concurrencyMin: fc.integer({ min: 1, max: 3 }),
    ttftTargetMs: fc.constantFrom(0, 0, 400),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 120 }), setting, async (steps, settings) => {
      const door = new TestDoor(settings)
      const all: Asked[] = []
      const underWay = () => door.begun.length
      for (const one of steps) {
        if (one.kind === 'ask') {
          const { deadlineInMs, kind: _, ...ask } = one
          const deadlineMs = deadlineInMs === null ? null : door.clock.now() + deadlineInMs
          all.push(door.ask({ ...ask, tier: ask.tier as 'flex', deadlineMs }))
        } else if ('ms' in one) door.clock.advance(one.ms)
        else if ('slots' in one) door.capacity = { slots: one.slots, start: one.slots, inFlightMax: 0 }
        else if ('which' in one) {
          const begun = door.begun[one.which % Math.max(1, underWay())]
          if (one.kind === 'abort') all[one.which % Math.max(1, all.length)]?.abort()
          else if (begun && one.kind === 'head') begun.sink.head(head)
          else if (begun && one.kind === 'answer') begun.answer()
          else begun?.fail(fail(codes[one.kind] ?? 'upstream_failed'))
          if (begun && one.kind !== 'abort' && one.kind !== 'head')
            door.begun.splice(door.begun.indexOf(begun), 1)
        }
        const before = door.sight
        await door.settled()
        const { limit, inFlight, waiting } = door.sight
        assert.ok(waiting <= settings.waitingMax, `${waiting} wait`)
        assert.ok(limit >= settings.concurrencyMin || all.length === 0)
        // What is under way when the limit falls goes on; nobody is let in beyond it.
        assert.ok(inFlight <= Math.max(limit, before.inFlight), `${inFlight} of ${limit}`)
        if (waiting > 0) assert.ok(inFlight >= limit, 'a place is empty, and somebody waits')
      }
      // Everybody who was let in comes to an end, and those who wait are let in or expire.
      for (let rounds = 0; door.sight.inFlight + door.sight.waiting > 0; rounds += 1) {
        assert.ok(rounds < 300, 'somebody stays for ever')
        for (const { answer } of door.begun.splice(0)) answer()
        door.clock.advance(1_000)
        await door.settled()
      }
      assert.ok(all.every(({ outcome }) => outcome !== null))
      let counted = 0
      for (const tier of ['priority', 'default', 'flex']) {
        const kinds = [
          'admitted',
          'rejected_full',
          'rejected_shed',
          'rejected_deadline',
          'expired',
          'client_gone',
        ]
        for (const kind of kinds) counted += await door.count(kind, tier)
      }
      assert.equal(counted, all.length, 'each is counted once')
      door.clock.advance(100)
      assert.equal(door.clock.pending, 0)
    }),
    { numRuns: 150 },
  )
})

const codes: Record<string, Parameters<typeof fail>[0]> = {
  overload: 'engine_overloaded',
  down: 'no_instance',
}
