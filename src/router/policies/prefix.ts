import { pickLeastLoaded } from './least-conn.ts'
import type { Candidate, Policy, PolicyContext } from './policy.ts'
import { PrefixIndex } from './prefix-index.ts'

export type PrefixOptions = {
  /** Blocks remembered over all instances; about 40 bytes each. */
  blocksMax: number
  /** With a larger difference between the longest and the shortest queue, the shortest gets the request. */
  spreadMax: number
  /** A match counts from this share of the prompt's blocks. */
  matchShareMin: number
}

export const prefixDefaults: PrefixOptions = { blocksMax: 262_144, spreadMax: 8, matchShareMin: 0.1 }

export function createPrefix(options: PrefixOptions = prefixDefaults): Policy {
  const index = new PrefixIndex(options)

  return {
    pick(candidates, call, context) {
      const blocks = call.prefixBlocks()
      const picked = pickByPrefix(candidates, blocks, index, options, context)
      index.add(picked.id, blocks)
      return picked
    },
  }
}

function pickByPrefix<C extends Candidate>(
  candidates: readonly C[],
  blocks: readonly number[],
  index: PrefixIndex,
  options: PrefixOptions,
  context: PolicyContext,
): C {
  if (blocks.length === 0 || isUneven(candidates, options.spreadMax)) {
    return pickLeastLoaded(candidates, context)
  }
  let best: C | null = null
  let bestMatch = options.matchShareMin * blocks.length
  for (const candidate of candidates) {
    const match = index.match(candidate.id, blocks)
    if (match > bestMatch || (match === bestMatch && best !== null && isLessLoaded(candidate, best))) {
      best = candidate
      bestMatch = match
    }
  }
  return best ?? pickLeastLoaded(candidates, context)
}

function isUneven(candidates: readonly Candidate[], spreadMax: number): boolean {
  let most = 0
  let least = Number.POSITIVE_INFINITY
  for (const { inFlight, weight } of candidates) {
    const load = inFlight / weight
    if (load > most) most = load
    if (load < least) least = load
  }
  return most - least > spreadMax
}

function isLessLoaded(a: Candidate, b: Candidate): boolean {
  return a.inFlight / a.weight < b.inFlight / b.weight
}
