import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { createWeighted } from '../../../src/router/policies/weighted.ts'
import { makeCall, makeCandidate } from './fake-fleet.ts'

const context = { nowMs: 0, random: () => 0 }

describe('smooth weighted round robin', () => {
  it("gives nginx's own example: 5, 1, 1 is a a b a c a a", () => {
    const policy = createWeighted()
    const fleet = [5, 1, 1].map((weight, i) => makeCandidate('abc'[i]!, { weight }))
    const picked = Array.from({ length: 14 }, () => policy.pick(fleet, makeCall(), context).id)
    assert.equal(picked.join(''), 'aabacaaaabacaa')
  })

  it('gives exactly the weights in each full round', () => {
    const weights = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 8 })
    fc.assert(
      fc.property(weights, (weights) => {
        const policy = createWeighted()
        const fleet = weights.map((weight, i) => makeCandidate(`instance-${i}`, { weight }))
        const counts = new Map<string, number>()
        const round = weights.reduce((sum, weight) => sum + weight)
        for (let i = 0; i < round; i += 1) {
          const { id } = policy.pick(fleet, makeCall(), context)
          counts.set(id, (counts.get(id) ?? 0) + 1)
        }
        for (const { id, weight } of fleet) assert.equal(counts.get(id), weight)
      }),
    )
  })
})
