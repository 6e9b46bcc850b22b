import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { seedRandom } from '../../../bench/simulation/random.ts'
import type { Candidate } from '../../../src/router/policies/policy.ts'
import { createSession, sessionDefaults } from '../../../src/router/policies/session.ts'
import { makeCall, makeCandidate } from './fake-fleet.ts'

const policy = createSession()
const keys = Array.from({ length: 8000 }, (_, i) => `session-${i}`)

/** Where each session goes when nothing is in flight. */
function place(candidates: readonly Candidate[]): Map<string, string> {
  const context = { nowMs: 0, random: () => 0 }
  return new Map(
    keys.map((sessionKey) => [sessionKey, policy.pick(candidates, makeCall({ sessionKey }), context).id]),
  )
}

function shareMoved(before: Map<string, string>, after: Map<string, string>): number {
  return keys.filter((key) => before.get(key) !== after.get(key)).length / keys.length
}

const fleet = Array.from({ length: 8 }, (_, i) => makeCandidate(`instance-${i}`))

describe('session', () => {
  it('keeps a session on its instance', () => {
    assert.equal(shareMoved(place(fleet), place(fleet.toReversed())), 0)
  })

  it('moves the sessions of an instance that leaves and no other, spread over all that stay', () => {
    const before = place(fleet)
    const after = place(fleet.slice(0, 7))
    for (const key of keys) {
      if (before.get(key) !== 'instance-7') assert.equal(after.get(key), before.get(key))
    }
    const moved = shareMoved(before, after)
    assert.ok(Math.abs(moved - 1 / 8) < 0.015, `${moved} of the sessions moved`)
    for (let i = 0; i < 7; i += 1) {
      const taken = keys.filter(
        (key) => before.get(key) === 'instance-7' && after.get(key) === `instance-${i}`,
      )
      assert.ok(taken.length > 90 && taken.length < 200, `instance-${i} took over ${taken.length} of 1000`)
    }
    assert.equal(shareMoved(before, place(fleet)), 0, 'when it returns, exactly they move back')
  })

  it('places sessions in proportion to the weights, and a changed weight moves few', () => {
    const weighted = [1, 2, 5].map((weight) => makeCandidate(`weight-${weight}`, { weight }))
    const before = place(weighted)
    for (const { id, weight } of weighted) {
      const share = [...before.values()].filter((place) => place === id).length / 1000 / weight
      assert.ok(share > 0.9 && share < 1.1, `${id} holds ${share} of its part`)
    }
    const after = place(
      weighted.map(({ id, weight }) => makeCandidate(id, { weight: id === 'weight-5' ? 6 : weight })),
    )
    assert.ok(shareMoved(before, after) < 0.06)
  })

  it('never gives an instance more than its bounded share of what is in flight', () => {
    const loads = fc.array(fc.record({ inFlight: fc.nat(200), weight: fc.integer({ min: 1, max: 9 }) }), {
      minLength: 1,
      maxLength: 10,
    })
    fc.assert(
      fc.property(loads, fc.string({ minLength: 1 }), (loads, sessionKey) => {
        const candidates = loads.map((state, i) => makeCandidate(`instance-${i}`, state))
        const picked = policy.pick(candidates, makeCall({ sessionKey }), { nowMs: 0, random: () => 0 })
        const inFlight = loads.reduce((sum, load) => sum + load.inFlight, 1)
        const weights = loads.reduce((sum, load) => sum + load.weight, 0)
        const { loadFactor, inFlightFree } = sessionDefaults
        const bound = Math.ceil(Math.max(inFlightFree, (loadFactor * inFlight) / weights) * picked.weight)
        assert.ok(picked.inFlight < bound, `${picked.inFlight} in flight, ${bound} allowed`)
      }),
    )
  })

  it('keeps a session in place while its instance has next to nothing to do', () => {
    const home = place(fleet).get('session-1')
    const light = fleet.map(({ id }) => makeCandidate(id, { inFlight: id === home ? 3 : 0 }))
    const picked = policy.pick(light, makeCall({ sessionKey: 'session-1' }), { nowMs: 0, random: () => 0 })
    assert.equal(picked.id, home)
  })

  it('spreads even a single hot session once its instance is full', () => {
    const counts = new Map(fleet.map(({ id }) => [id, 0]))
    for (let i = 0; i < 800; i += 1) {
      const candidates = fleet.map(({ id }) => makeCandidate(id, { inFlight: counts.get(id)! }))
      const { id } = policy.pick(candidates, makeCall({ sessionKey: 'hot' }), { nowMs: 0, random: () => 0 })
      counts.set(id, counts.get(id)! + 1)
    }
    assert.ok(Math.max(...counts.values()) <= 125)
  })

  it('goes where the wait is shortest without a session key', () => {
    const candidates = fleet.map(({ id }, i) =>
      makeCandidate(id, { inFlight: i === 5 ? 0 : 4, estimateMs: 100 }),
    )
    for (const sessionKey of [null, '']) {
      const picked = policy.pick(candidates, makeCall({ sessionKey }), { nowMs: 0, random: seedRandom(1) })
      assert.equal(picked.id, 'instance-5')
    }
  })

  it('reads a bounded part of a long key', () => {
    const long = 'k'.repeat(1_000_000)
    const context = { nowMs: 0, random: () => 0 }
    const pick = (sessionKey: string) => policy.pick(fleet, makeCall({ sessionKey }), context).id
    assert.equal(pick(`${long}a`), pick(`${long}b`))
  })
})
