import { observeLatency } from '../../src/fleet/latency.ts'
import type { Policy } from '../../src/router/policies/policy.ts'
import { engineSpec, ModelInstance, type Observe, type Outcome } from './model-instance.ts'
import { toPrefixBlocks, type TracedRequest } from './trace.ts'

type FleetOptions = {
  policy: Policy
  /** In order of arrival. */
  requests: readonly TracedRequest[]
  instances: readonly { speed: number; weight: number }[]
  /** Changes of speed on the way, in order of time. */
  changes: readonly { atMs: number; instance: number; speed: number }[]
  random: () => number
  /** Anything but production's own is for comparison. */
  observe?: Observe
}

type FleetResult = {
  /** Sorted. */
  ttftMs: Float64Array
  cachedShare: number
  /** The share of time in which the instances take in prompts, and the share of their sequences in use. */
  prefillShare: number
  sequencesShare: number
}

/** Sends a trace through a policy to simulated instances, as one router does: exact counts, live estimates. */
export function simulateFleet(options: FleetOptions): FleetResult {
  const outcomes: Outcome[] = []
  const instances = options.instances.map(
    ({ speed, weight }, i) =>
      new ModelInstance({
        id: `instance-${i}`,
        weight,
        speed,
        spec: engineSpec,
        observe: options.observe ?? observeLatency,
        onFirstToken: (outcome) => outcomes.push(outcome),
      }),
  )
  const changes = [...options.changes]
  const context = { nowMs: 0, random: options.random }
  for (const request of options.requests) {
    while (changes.length > 0 && changes[0]!.atMs <= request.atMs) {
      const { atMs, instance, speed } = changes.shift()!
      instances[instance]!.advance(atMs)
      instances[instance]!.speed = speed
    }
    for (const instance of instances) instance.advance(request.atMs)
    context.nowMs = request.atMs
    const { blocks, sessionKey } = request
    const call = { sessionKey, prefixBlocks: () => toPrefixBlocks(blocks) }
    const picked = options.policy.pick(instances, call, context)
    picked.accept(request, request.atMs)
  }
  const timeMs = options.requests.at(-1)!.atMs * instances.length
  const prefillShare = sumOf(instances, (instance) => instance.prefillBusyMs) / timeMs
  const sequencesShare =
    sumOf(instances, (instance) => instance.sequencesBusyMs) / timeMs / engineSpec.sequencesMax
  for (const instance of instances) instance.advance(Number.MAX_SAFE_INTEGER)
  return {
    ttftMs: Float64Array.from(outcomes, (outcome) => outcome.ttftMs).sort(),
    cachedShare:
      sumOf(outcomes, (outcome) => outcome.cachedTokens) / sumOf(outcomes, (outcome) => outcome.inputTokens),
    prefillShare,
    sequencesShare,
  }
}

function sumOf<T>(items: readonly T[], read: (item: T) => number): number {
  let sum = 0
  for (const item of items) sum += read(item)
  return sum
}

export function quantile(sorted: Float64Array, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!
}
