import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { seedRandom } from '../../../bench/simulation/random.ts'
import { createPrefix } from '../../../src/router/policies/prefix.ts'
import { makeCall, makeCandidate } from './fake-fleet.ts'

const context = { nowMs: 0, random: seedRandom(1) }
const chain = (from: number, length: number) => Array.from({ length }, (_, i) => from + i)

/** Four idle instances, with other counts for those named. */
function makeFleet(states: Record<string, { inFlight?: number; waitingBytes?: number }> = {}) {
  return ['a', 'b', 'c', 'd'].map((id) => makeCandidate(id, { estimateMs: 100, ...states[id] }))
}

describe('prefix', () => {
  it('keeps a conversation that goes on where its beginning is held', () => {
    const policy = createPrefix()
    for (let conversation = 0; conversation < 20; conversation += 1) {
      const blocks = chain(conversation * 1000, 50)
      const first = policy.pick(makeFleet(), makeCall({ blocks: blocks.slice(0, 10) }), context).id
      for (const length of [20, 30, 50]) {
        assert.equal(
          policy.pick(makeFleet(), makeCall({ blocks: blocks.slice(0, length) }), context).id,
          first,
        )
      }
    }
  })

  it('prefers the longer of two matches', () => {
    const policy = createPrefix()
    const blocks = chain(0, 40)
    const fleet = makeFleet()
    assert.equal(policy.pick(fleet.slice(0, 1), makeCall({ blocks: blocks.slice(0, 10) }), context).id, 'a')
    assert.equal(policy.pick(fleet.slice(1, 2), makeCall({ blocks: blocks.slice(0, 30) }), context).id, 'b')
    assert.equal(policy.pick(fleet, makeCall({ blocks }), context).id, 'b')
  })

  it('leaves the holder when more waits there than the match spares', () => {
    const policy = createPrefix()
    const blocks = chain(0, 10)
    policy.pick(makeFleet().slice(0, 1), makeCall({ blocks }), context)
    // The match spares 10 blocks of 256 bytes, counted three times.
    assert.equal(
      policy.pick(makeFleet({ a: { waitingBytes: 7_000 } }), makeCall({ blocks }), context).id,
      'a',
    )
    assert.notEqual(
      policy.pick(makeFleet({ a: { waitingBytes: 9_000 } }), makeCall({ blocks }), context).id,
      'a',
    )
  })

  it('goes to the shortest queue when the queues differ by more than the guard allows', () => {
    const blocks = chain(0, 512)
    const others = { b: { inFlight: 9 }, c: { inFlight: 9 }, d: { inFlight: 9 } }
    const uneven = (inFlight: number) => makeFleet({ ...others, a: { inFlight }, d: { inFlight: 0 } })
    const policy = createPrefix()
    policy.pick(makeFleet().slice(0, 1), makeCall({ blocks }), context)
    assert.equal(policy.pick(uneven(32), makeCall({ blocks }), context).id, 'a')
    assert.equal(policy.pick(uneven(33), makeCall({ blocks }), context).id, 'd')
  })

  it('goes where the wait is shortest when the prompt has no whole block', () => {
    const fleet = makeFleet({ a: { inFlight: 1 }, b: { inFlight: 1 }, d: { inFlight: 1 } })
    assert.equal(createPrefix().pick(fleet, makeCall(), context).id, 'c')
  })
})
