import { readLatency } from '../../fleet/latency.ts'
import type { Candidate, Policy, PolicyContext } from './policy.ts'

/**
 * Peak EWMA with the power of two choices: of two instances drawn at random, the one where the request is expected
 * to wait less, estimate * (inFlight + 1) / weight. Two random choices and not the best of all, so that several
 * gateways that see the same figures do not all run to the same instance.
 * Sources: Finagle, https://twitter.github.io/finagle/guide/Clients.html#power-of-two-choices-p2c-least-loaded;
 * Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, IEEE TPDS 12 (10), 2001.
 */
export function createPeakEwma(): Policy {
  return { pick: (candidates, _call, context) => pickByPeakEwma(candidates, context) }
}

export function pickByPeakEwma<C extends Candidate>(candidates: readonly C[], context: PolicyContext): C {
  const count = candidates.length
  if (count === 1) return candidates[0]!
  const first = Math.floor(context.random() * count)
  // A step of 1 to count - 1 round the ring always lands on another one.
  const second = (first + 1 + Math.floor(context.random() * (count - 1))) % count
  return pickCheaper(candidates[first]!, candidates[second]!, context.nowMs)
}

function pickCheaper<C extends Candidate>(a: C, b: C, nowMs: number): C {
  const loadA = (a.inFlight + 1) / a.weight
  const loadB = (b.inFlight + 1) / b.weight
  // An instance that has never answered counts as fast as its rival: as 0 ms it would be flooded until its first
  // answer came back, and with a penalty it would starve.
  if (a.latency.estimateMs === 0 || b.latency.estimateMs === 0) return loadB < loadA ? b : a
  return readLatency(b.latency, nowMs) * loadB < readLatency(a.latency, nowMs) * loadA ? b : a
}
