import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import * as fc from 'fast-check'
import { seedRandom } from '../../../bench/simulation/random.ts'
import { policyNames } from '../../../src/config/schema.ts'
import { policyFactories } from '../../../src/router/policies/table.ts'
import { FakeInstance, FakeTraffic, makeCall, makeCandidate } from './fake-fleet.ts'

/** What every policy promises, whatever it optimises. fast-check prints seed and path of a failure. */

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** Policies that share out in proportion to the weights when the load is steady. */
const heedsWeights = new Set(['weighted', 'least_conn', 'peak_ewma', 'prefix', 'session'])

const candidateArbitrary = fc.record({
  weight: fc.double({ min: 0.01, max: 1000, noNaN: true }),
  inFlight: fc.nat(1000),
  waitingBytes: fc.nat(10_000_000),
  estimateMs: fc.oneof(fc.constant(0), fc.double({ min: 0.001, max: 600_000, noNaN: true })),
  updatedAtMs: fc.nat(1_000_000),
})

const stepArbitrary = fc.record({
  candidates: fc.uniqueArray(fc.tuple(fc.nat(30), candidateArbitrary), {
    selector: ([number]) => number,
    minLength: 1,
    maxLength: 12,
  }),
  sessionKey: fc.option(fc.string({ maxLength: 20 })),
  blocks: fc.array(fc.nat(50), { maxLength: 12 }),
  nowMs: fc.nat(2_000_000),
})

type Step = typeof stepArbitrary extends fc.Arbitrary<infer T> ? T : never

/** Plays the steps; the candidates are frozen, so a policy that writes to them throws. */
function play(name: (typeof policyNames)[number], steps: readonly Step[], seed: number): string[] {
  const policy = policyFactories[name]()
  const random = seedRandom(seed)
  return steps.map(({ candidates, sessionKey, blocks, nowMs }) => {
    const present = Object.freeze(
      candidates.map(([number, state]) => makeCandidate(`instance-${number}`, state)),
    )
    const picked = policy.pick(present, makeCall({ sessionKey, blocks }), { nowMs, random })
    assert.ok(present.includes(picked), `${picked.id} is not among the candidates`)
    return picked.id
  })
}

for (const name of policyNames) {
  describe(`the policy ${name}`, () => {
    it('picks one of the candidates, whoever joins or leaves, and changes none of them', () => {
      fc.assert(fc.property(fc.array(stepArbitrary, { maxLength: 30 }), (steps) => void play(name, steps, 1)))
    })

    it('picks the same for the same arguments and the same random numbers', () => {
      fc.assert(
        fc.property(fc.array(stepArbitrary, { maxLength: 30 }), fc.integer(), (steps, seed) =>
          assert.deepEqual(play(name, steps, seed), play(name, steps, seed)),
        ),
      )
    })

    it('picks the only candidate', () => {
      fc.assert(
        fc.property(candidateArbitrary, fc.option(fc.string()), (state, sessionKey) => {
          const only = makeCandidate('only', state)
          const context = { nowMs: 1e7, random: seedRandom(1) }
          assert.equal(
            policyFactories[name]().pick([only], makeCall({ sessionKey, blocks: [1] }), context),
            only,
          )
        }),
      )
    })

    it('starves none of eight equal instances and floods none', () => {
      fc.assert(
        fc.property(fc.integer(), (seed) => {
          const instances = makeFleet(8)
          makeTraffic(seed, 24).send(policyFactories[name](), instances, 4000)
          for (const { id, picks } of instances) {
            assert.ok(picks > 250 && picks < 1000, `${id} got ${picks} of 4000`)
          }
        }),
        { numRuns: 10 },
      )
    })

    it('gives an instance that joins its share, neither more nor less', () => {
      fc.assert(
        fc.property(fc.integer(), (seed) => {
          const policy = policyFactories[name]()
          const traffic = makeTraffic(seed, 24)
          const instances = makeFleet(3)
          traffic.send(policy, instances, 1000)
          const fresh = new FakeInstance('fresh')
          traffic.send(policy, [...instances, fresh], 400)
          assert.ok(fresh.picks > 40 && fresh.picks < 220, `the new one got ${fresh.picks} of 400`)
        }),
        { numRuns: 10 },
      )
    })

    it('goes on with those left when some vanish, and takes them back', () => {
      const policy = policyFactories[name]()
      const traffic = makeTraffic(7, 16)
      const instances = makeFleet(4)
      traffic.send(policy, instances, 200)
      const left = traffic.send(policy, instances.slice(0, 2), 200)
      assert.deepEqual(new Set(left), new Set(['instance-0', 'instance-1']))
      const back = traffic.send(policy, instances, 400)
      assert.equal(new Set(back).size, 4)
    })

    it('does not pin traffic with one shared system prompt to one instance', () => {
      const instances = makeFleet(8)
      const systemPrompt = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
      const traffic = new FakeTraffic({
        random: seedRandom(3),
        concurrency: 24,
        makeCall: (number) =>
          makeCall({ sessionKey: `s${number}`, blocks: [...systemPrompt, 1000 + number] }),
      })
      traffic.send(policyFactories[name](), instances, 4000)
      for (const { id, picks } of instances)
        assert.ok(picks > 150 && picks < 1000, `${id} got ${picks} of 4000`)
    })

    it('forgets: memory does not grow with instances, sessions and prompts that were seen once', () => {
      const policy = policyFactories[name]()
      const random = seedRandom(1)
      let number = 0
      const churn = () => {
        for (let i = 0; i < 8000; i += 1) {
          number += 1
          const candidates = [makeCandidate(`a-${number}`), makeCandidate(`b-${number}`)]
          const blocks = Array.from({ length: 64 }, (_, block) => number * 64 + block)
          policy.pick(candidates, makeCall({ sessionKey: `s-${number}`, blocks }), { nowMs: number, random })
        }
        collectGarbage()
        return process.memoryUsage().heapUsed
      }
      churn()
      const before = churn()
      const after = churn()
      // Without a bound, `prefix` would add 20 MB here and a map of instances 1 MB.
      assert.ok(after - before < 700_000, `${after - before} bytes more after 8000 further requests`)
    })

    if (heedsWeights.has(name)) {
      it('shares out in proportion to the weights when the load is steady', () => {
        const weights = [1, 1, 2, 4]
        const instances = weights.map(
          (weight, i) => new FakeInstance(`instance-${i}`, { weight, msPerRequest: 100 / weight }),
        )
        makeTraffic(5, 64).send(policyFactories[name](), instances, 8000)
        for (const { id, picks, weight } of instances) {
          const share = picks / 1000 / weight
          assert.ok(share > 0.7 && share < 1.4, `${id} of weight ${weight} got ${picks} of 8000`)
        }
      })
    }
  })
}

function makeFleet(count: number): FakeInstance[] {
  return Array.from({ length: count }, (_, i) => new FakeInstance(`instance-${i}`))
}

function makeTraffic(seed: number, concurrency: number): FakeTraffic {
  return new FakeTraffic({
    random: seedRandom(seed),
    concurrency,
    makeCall: (number) => makeCall({ sessionKey: `session-${number}`, blocks: [number * 2, number * 2 + 1] }),
  })
}
