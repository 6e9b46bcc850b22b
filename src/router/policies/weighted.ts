import { InstanceMemory } from './instance-memory.ts'
import type { Candidate, Policy } from './policy.ts'

/**
 * Smooth weighted round robin: shares in proportion to the weights, spread evenly over time (weights 5, 1, 1 give
 * a a b a c a a, never five in a row). Each candidate earns its weight at each pick; the richest is picked and pays
 * what all have earned.
 * Source: nginx, ngx_http_upstream_get_peer, https://github.com/nginx/nginx/commit/52327e0627f49dbda1e8db695e63a4b0af4448b1
 */
export function createWeighted(): Policy {
  const credits = new InstanceMemory(() => ({ credit: 0 }))

  return {
    pick<C extends Candidate>(candidates: readonly C[]): C {
      let best = candidates[0]!
      let bestEntry = credits.of(best.id, candidates)
      bestEntry.credit += best.weight
      let earned = best.weight
      for (let i = 1; i < candidates.length; i += 1) {
        const candidate = candidates[i]!
        const entry = credits.of(candidate.id, candidates)
        entry.credit += candidate.weight
        earned += candidate.weight
        if (entry.credit > bestEntry.credit) {
          best = candidate
          bestEntry = entry
        }
      }
      bestEntry.credit -= earned
      return best
    },
  }
}
