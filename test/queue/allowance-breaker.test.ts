import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { Breaker } from '../../src/fleet/breaker.ts'
import { Allowance, type FleetMember } from '../../src/queue/allowance.ts'
import { LiveBook } from '../../src/queue/live-signals.ts'
import { ManualClock } from '../helpers/clock.ts'

const limits = { breakerWindowMs: 1_000, breakerCallsMin: 1, breakerShare: 1, breakerOpenMs: 600_000 }

const member = (breaker: Breaker): FleetMember => ({
  ...{ state: 'ready', ejectedUntilMs: 0, busyUntilMs: 0, slots: 8, inFlight: 0, breaker },
  spec: { models: new Map([['m', 'm']]) },
})

test('the slots of an instance whose breaker is open are not given to tasks until its time is over', () => {
  const clock = new ManualClock()
  const open = new Breaker()
  open.trip(0, limits)
  const all = [member(new Breaker()), member(open)]
  const allowance = new Allowance({ registry: { all }, live: new LiveBook(clock), clock, reserve: () => 0 })
  const look = (forMs: number) => {
    for (const untilMs = clock.now() + forMs; clock.now() < untilMs; clock.advance(1_000)) {
      allowance.look(new Map())
    }
    return allowance.free('m', new Map())
  }
  assert.equal(look(300_000), 8)
  // Nobody but a task may be there to try it.
  assert.equal(look(600_000), 16)
})
