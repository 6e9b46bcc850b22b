import { averageEstimateMs, expectWait } from './expected-wait.ts'
import type { Candidate, Policy, PolicyContext } from './policy.ts'

/**
 * The instance where the request is expected to wait least, by what waits there and how fast it has answered.
 *
 * It looks at all candidates where Peak EWMA draws two at random. Two choices protect against figures that are old or
 * shared, so that not everybody runs to the same instance; these are the gateway's own and of this moment, and the
 * best of all waits a third less at the median than the best of two (docs/routing.md).
 * Sources: Finagle, https://twitter.github.io/finagle/guide/Clients.html; the queue by its work and not its length:
 * Mooncake, https://arxiv.org/abs/2407.00079, section 6.
 */
export function createPeakEwma(): Policy {
  return { pick: (candidates, _call, context) => pickShortestWait(candidates, context) }
}

export function pickShortestWait<C extends Candidate>(candidates: readonly C[], context: PolicyContext): C {
  const basis = { nowMs: context.nowMs, averageMs: averageEstimateMs(candidates) }
  let best = candidates[0]!
  let bestWait = Number.POSITIVE_INFINITY
  let ties = 1
  for (const candidate of candidates) {
    const wait = expectWait(candidate, basis, 0)
    if (wait > bestWait) continue
    ties = wait < bestWait ? 1 : ties + 1
    if (ties > 1 && context.random() * ties >= 1) continue
    best = candidate
    bestWait = wait
  }
  return best
}
