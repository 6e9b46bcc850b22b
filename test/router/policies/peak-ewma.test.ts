import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { seedRandom } from '../../../bench/simulation/random.ts'
import { createPeakEwma } from '../../../src/router/policies/peak-ewma.ts'
import type { Candidate } from '../../../src/router/policies/policy.ts'
import { FakeInstance, FakeTraffic, makeCall, makeCandidate } from './fake-fleet.ts'

const pick = (candidates: readonly Candidate[], nowMs = 0) =>
  createPeakEwma().pick(candidates, makeCall(), { nowMs, random: seedRandom(1) }).id

describe('peak_ewma', () => {
  it('prefers the instance that answers sooner', () => {
    assert.equal(
      pick([makeCandidate('slow', { estimateMs: 900 }), makeCandidate('fast', { estimateMs: 300 })]),
      'fast',
    )
  })

  it('counts the bytes that wait, so that one long prompt weighs more than several short ones', () => {
    const long = makeCandidate('long', { inFlight: 1, waitingBytes: 200_000, estimateMs: 500 })
    const short = makeCandidate('short', { inFlight: 4, waitingBytes: 8_000, estimateMs: 500 })
    assert.equal(pick([long, short]), 'short')
  })

  it('counts the requests in flight where nothing waits', () => {
    const latency = { estimateMs: 500, updatedAtMs: 0 }
    const busy = { id: 'busy', weight: 1, inFlight: 3, waitingBytes: 0, latency }
    const free = { id: 'free', weight: 1, inFlight: 1, waitingBytes: 0, latency }
    assert.equal(pick([busy, free]), 'free')
  })

  it('takes a heavier instance for as much more as it weighs', () => {
    const heavy = makeCandidate('heavy', { weight: 4, inFlight: 3, estimateMs: 500 })
    const light = makeCandidate('light', { inFlight: 1, estimateMs: 500 })
    assert.equal(pick([heavy, light]), 'heavy')
  })

  it('gives a fresh instance one request for one of the others until it has answered', () => {
    const known = { estimateMs: 2000, inFlight: 2, waitingBytes: 4000 }
    const others = [makeCandidate('a', known), makeCandidate('b', known)]
    assert.equal(pick([...others, makeCandidate('fresh')]), 'fresh')
    assert.notEqual(pick([...others, makeCandidate('fresh', { inFlight: 3, waitingBytes: 6000 })]), 'fresh')
  })

  it('tries a once slow instance again after a while, and not twice before it has answered', () => {
    const fast = makeCandidate('fast', { estimateMs: 100, updatedAtMs: 2_000_000 })
    const slow = { estimateMs: 900, updatedAtMs: 0 }
    assert.equal(pick([fast, makeCandidate('slow', slow)], 200_000), 'fast')
    assert.equal(pick([fast, makeCandidate('slow', slow)], 2_000_000), 'slow')
    assert.equal(pick([fast, makeCandidate('slow', { ...slow, inFlight: 1 })], 2_000_000), 'fast')
  })

  it('draws among equals, so that an idle fleet does not send everything to its first instance', () => {
    const fleet = ['a', 'b', 'c'].map((id) => makeCandidate(id))
    const context = { nowMs: 0, random: seedRandom(6) }
    const counts = new Map<string, number>()
    for (let i = 0; i < 3000; i += 1) {
      const { id } = createPeakEwma().pick(fleet, makeCall(), context)
      counts.set(id, (counts.get(id) ?? 0) + 1)
    }
    for (const [id, count] of counts) assert.ok(count > 900 && count < 1100, `${id} was drawn ${count} times`)
    assert.equal(counts.size, 3)
  })

  it('sends a slow instance less than its part, and still something', () => {
    const slow = new FakeInstance('slow', { msPerRequest: 1000 })
    const instances = [slow, ...[1, 2, 3].map((i) => new FakeInstance(`fast-${i}`, { msPerRequest: 100 }))]
    const traffic = new FakeTraffic({ random: seedRandom(4), concurrency: 32, makeCall: () => makeCall() })
    traffic.send(createPeakEwma(), instances, 4000)
    assert.ok(slow.picks > 100 && slow.picks < 600, `the slow one got ${slow.picks} of 4000`)
  })
})
