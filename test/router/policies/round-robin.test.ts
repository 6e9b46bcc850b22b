import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { createRoundRobin } from '../../../src/router/policies/round-robin.ts'
import { makeCall, makeCandidate } from './fake-fleet.ts'

const context = { nowMs: 0, random: () => 0 }
const fleet = ['a', 'b', 'c', 'd'].map((id) => makeCandidate(id))

describe('round robin', () => {
  it('takes all in turn', () => {
    const policy = createRoundRobin()
    const picked = Array.from({ length: 8 }, () => policy.pick(fleet, makeCall(), context).id)
    assert.equal(picked.join(''), 'abcdabcd')
  })

  it('skips nobody when the candidates alternate, where a counter would pick the same for ever', () => {
    const policy = createRoundRobin()
    const picked = new Set<string>()
    for (let i = 0; i < 12; i += 1) {
      picked.add(policy.pick(i % 2 === 0 ? fleet : fleet.slice(0, 2), makeCall(), context).id)
    }
    assert.deepEqual([...picked].sort(), ['a', 'b', 'c', 'd'])
  })

  it('lets nobody wait longer than a round, whatever subset is available in between', () => {
    fc.assert(
      fc.property(fc.array(fc.subarray(fleet, { minLength: 1 }), { maxLength: 100 }), (steps) => {
        const policy = createRoundRobin()
        const passedOver = new Map<string, number>()
        for (const candidates of steps) {
          const picked = policy.pick(candidates, makeCall(), context)
          for (const { id } of candidates) {
            const times = id === picked.id ? 0 : (passedOver.get(id) ?? 0) + 1
            assert.ok(times < fleet.length, `${id} was passed over ${times} times`)
            passedOver.set(id, times)
          }
        }
      }),
    )
  })
})
