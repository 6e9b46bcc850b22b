import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { seedRandom } from '../../../bench/simulation/random.ts'
import { createLeastConn } from '../../../src/router/policies/least-conn.ts'
import { makeCall, makeCandidate } from './fake-fleet.ts'

describe('least connections', () => {
  it('divides what is in flight by the weight', () => {
    const fleet = [
      makeCandidate('small', { inFlight: 2 }),
      makeCandidate('large', { inFlight: 5, weight: 4 }),
    ]
    const context = { nowMs: 0, random: seedRandom(1) }
    assert.equal(createLeastConn().pick(fleet, makeCall(), context).id, 'large')
  })

  it('draws among equals in proportion to their weights', () => {
    const fleet = [1, 2, 5].map((weight) => makeCandidate(`weight-${weight}`, { weight }))
    const context = { nowMs: 0, random: seedRandom(2) }
    const policy = createLeastConn()
    const counts = new Map<string, number>()
    for (let i = 0; i < 8000; i += 1) {
      const { id } = policy.pick(fleet, makeCall(), context)
      counts.set(id, (counts.get(id) ?? 0) + 1)
    }
    for (const { id, weight } of fleet) {
      const share = counts.get(id)! / 1000 / weight
      assert.ok(share > 0.9 && share < 1.1, `${id} was drawn ${counts.get(id)} times of 8000`)
    }
  })
})
