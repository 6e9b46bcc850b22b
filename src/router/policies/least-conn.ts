import type { Candidate, Policy, PolicyContext } from './policy.ts'

/**
 * Least connections: the fewest requests in flight for its weight.
 * Source: nginx, ngx_http_upstream_least_conn_module, https://nginx.org/en/docs/http/ngx_http_upstream_module.html#least_conn
 */
export function createLeastConn(): Policy {
  return { pick: (candidates, _call, context) => pickLeastLoaded(candidates, context) }
}

/**
 * The candidate with the smallest inFlight / weight. Among equals each is drawn in proportion to its weight: an idle
 * fleet would otherwise send everything to its first instance, and a light one would get as much as a heavy one.
 */
export function pickLeastLoaded<C extends Candidate>(candidates: readonly C[], context: PolicyContext): C {
  let best = candidates[0]!
  let bestLoad = best.inFlight / best.weight
  let tiedWeight = best.weight
  for (let i = 1; i < candidates.length; i += 1) {
    const candidate = candidates[i]!
    const load = candidate.inFlight / candidate.weight
    if (load > bestLoad) continue
    if (load < bestLoad) {
      best = candidate
      bestLoad = load
      tiedWeight = candidate.weight
      continue
    }
    // Reservoir sampling: one pass, no list of the equals.
    tiedWeight += candidate.weight
    if (context.random() * tiedWeight < candidate.weight) best = candidate
  }
  return best
}
