import { strict as assert } from 'node:assert'
import test from 'node:test'
import fc from 'fast-check'
import { Lanes } from '../../../src/queue/webhooks/lanes.ts'

const limits = { activeMax: 4, laneActiveMax: 2, laneWaitingMax: 3, heldMax: 8 }

test('hosts take turns, and one can not take all places', () => {
  const lanes = new Lanes<number>(limits)
  for (const at of [1, 2, 3]) assert(lanes.offer('a', at))
  assert(!lanes.offer('a', 4), 'its line is full')
  assert(lanes.offer('b', 5))
  assert.deepEqual(lanes.take(), { host: 'a', item: 1 })
  assert.deepEqual(lanes.take(), { host: 'b', item: 5 })
  assert.deepEqual(lanes.take(), { host: 'a', item: 2 })
  assert.equal(lanes.take(), undefined, 'two of a are under way')
  lanes.done('a')
  assert.deepEqual(lanes.take(), { host: 'a', item: 3 })
})

test('whatever comes and goes, no limit is passed and nothing is lost', () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('offer' as const), host: fc.constantFrom('a', 'b', 'c', 'd') }),
    fc.constant({ kind: 'take' as const }),
    fc.record({ kind: fc.constant('done' as const), at: fc.nat(3) }),
    fc.constant({ kind: 'clear' as const }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const lanes = new Lanes<string>(limits)
      const waiting: string[] = []
      const active: string[] = []
      for (const step of steps) {
        if (step.kind === 'offer') {
          const isFull = waiting.length + active.length >= limits.heldMax || waiting.filter((host) => host === step.host).length >= limits.laneWaitingMax // prettier-ignore
          assert.equal(lanes.offer(step.host, step.host), !isFull)
          if (!isFull) waiting.push(step.host)
        } else if (step.kind === 'take') {
          const mayGo = waiting.filter((host) => active.filter((other) => other === host).length < limits.laneActiveMax) // prettier-ignore
          const next = lanes.take()
          assert.equal(next !== undefined, active.length < limits.activeMax && mayGo.length > 0)
          if (!next) continue
          assert(mayGo.includes(next.host))
          waiting.splice(waiting.indexOf(next.host), 1)
          active.push(next.host)
        } else if (step.kind === 'done') {
          const [host] = active.splice(step.at, 1)
          if (host) lanes.done(host)
        } else assert.deepEqual(lanes.clear().sort(), waiting.splice(0).sort())
        assert.equal(lanes.room, limits.heldMax - waiting.length - active.length)
      }
    }),
  )
})
