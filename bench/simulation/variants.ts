import type { LatencyEstimate } from '../../src/fleet/instance.ts'
import { averageEstimateMs } from '../../src/router/policies/expected-wait.ts'
import { pickLeastLoaded } from '../../src/router/policies/least-conn.ts'
import { createPeakEwma } from '../../src/router/policies/peak-ewma.ts'
import type { Candidate, Policy } from '../../src/router/policies/policy.ts'
import { createPrefix, prefixDefaults } from '../../src/router/policies/prefix.ts'
import { PrefixIndex } from '../../src/router/policies/prefix-index.ts'
import type { Observe } from './model-instance.ts'

/** A policy that was tried and not taken, or a parameter at another value. */
export type Variant = { name: string; create: () => Policy; observe?: Observe }

export const variants: readonly Variant[] = [
  { name: 'peak_ewma', create: createPeakEwma },
  { name: 'peak_ewma, no estimate', create: createPeakEwma, observe: () => {} },
  { name: 'peak_ewma, jumps to peaks', create: createPeakEwma, observe: observePeak(60_000) },
  { name: 'peak_ewma, tau 10 s', create: createPeakEwma, observe: observeAverage(10_000) },
  { name: 'peak_ewma, tau 300 s', create: createPeakEwma, observe: observeAverage(300_000) },
  { name: 'peak_ewma, best of two', create: () => drawTwo(createPeakEwma()) },
  { name: 'peak_ewma, waiting bytes unknown', create: () => hideWaiting(createPeakEwma()) },
  { name: "Finagle's, best of two", create: () => drawTwo(createFinagle()), observe: observePeak(10_000) },
  { name: "Finagle's, best of all", create: createFinagle, observe: observePeak(10_000) },
  { name: 'prefix', create: () => createPrefix() },
  ...[1, 2, 8].map((missFactor) => ({
    name: `prefix, miss factor ${missFactor}`,
    create: () => createPrefix({ ...prefixDefaults, missFactor }),
  })),
  ...[4, 8].map((spreadMax) => ({
    name: `prefix, spread ${spreadMax}`,
    create: () => createPrefix({ ...prefixDefaults, spreadMax }),
  })),
  {
    name: 'longest match over 10 %',
    create: () => createLongestMatch({ matchShareMin: 0.1, spreadMax: 32 }),
  },
]

function observeAverage(tauMs: number): Observe {
  return (latency, sampleMs, nowMs) => {
    const keep = latency.estimateMs === 0 ? 0 : Math.exp((latency.updatedAtMs - nowMs) / tauMs)
    latency.estimateMs = latency.estimateMs * keep + sampleMs * (1 - keep)
    latency.updatedAtMs = nowMs
  }
}

function observePeak(tauMs: number): Observe {
  const average = observeAverage(tauMs)
  return (latency: LatencyEstimate, sampleMs, nowMs) => {
    if (sampleMs > latency.estimateMs) latency.estimateMs = sampleMs
    average(latency, sampleMs, nowMs)
  }
}

/** estimate * (in flight + 1), as Finagle has it. */
function createFinagle(): Policy {
  return {
    pick<C extends Candidate>(candidates: readonly C[]): C {
      const averageMs = averageEstimateMs(candidates)
      const cost = ({ latency, inFlight, weight }: C) =>
        ((latency.estimateMs || averageMs) * (inFlight + 1)) / weight
      return candidates.reduce((best, candidate) => (cost(candidate) < cost(best) ? candidate : best))
    },
  }
}

/** The longest match if it is long enough and the queues are even, else the shortest queue: SGLang's rule. */
function createLongestMatch(options: { matchShareMin: number; spreadMax: number }): Policy {
  const index = new PrefixIndex(prefixDefaults)
  return {
    pick(candidates, call, context) {
      const blocks = call.prefixBlocks()
      const loads = candidates.map(({ inFlight }) => inFlight)
      const matches = candidates.map(({ id }) => index.match(id, blocks))
      const longest = Math.max(...matches)
      const isEven = Math.max(...loads) - Math.min(...loads) <= options.spreadMax
      const holders = candidates.filter((_, i) => matches[i] === longest)
      const isMatch = longest > options.matchShareMin * blocks.length
      const picked = pickLeastLoaded(isEven && isMatch ? holders : candidates, context)
      index.add(picked.id, blocks)
      return picked
    },
  }
}

function drawTwo(policy: Policy): Policy {
  return {
    pick(candidates, call, context) {
      const first = Math.floor(context.random() * candidates.length)
      const step = 1 + Math.floor(context.random() * (candidates.length - 1))
      const second = (first + step) % candidates.length
      return policy.pick([candidates[first]!, candidates[second]!], call, context)
    },
  }
}

function hideWaiting(policy: Policy): Policy {
  return {
    pick(candidates, call, context) {
      const bare = candidates.map((candidate) => ({ ...candidate, waitingBytes: 0 }))
      return candidates[bare.indexOf(policy.pick(bare, call, context))]!
    },
  }
}
