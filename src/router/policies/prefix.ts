import { averageEstimateMs, expectWait } from './expected-wait.ts'
import { pickLeastLoaded } from './least-conn.ts'
import type { Candidate, Policy, PolicyContext } from './policy.ts'
import { blockBytes } from './prefix-blocks.ts'
import { PrefixIndex } from './prefix-index.ts'

type PrefixOptions = {
  /** Blocks remembered over all instances; about 40 bytes of memory each. */
  blocksMax: number
  /** With more in flight between the longest and the shortest queue, the shortest gets the request. */
  spreadMax: number
  /**
   * What a byte that must be computed anew costs, beside one that waits. More than 1, because the copy it leaves
   * pushes something else out of a cache.
   */
  missFactor: number
}

export const prefixDefaults: PrefixOptions = { blocksMax: 262_144, spreadMax: 32, missFactor: 3 }

/**
 * The instance that is expected to have read the prompt first: what waits there, plus what it does not hold of this
 * prompt, at the pace of its answers.
 *
 * No threshold decides whether a match is long enough: it is worth as many bytes as it spares. So a system prompt
 * that all requests share pins nothing: as soon as its holder has a request more than the others, another instance is
 * cheaper, and holds it from then on. The guard on the spread is for what the bytes do not show, such as long answers.
 * Sources: Mooncake, https://arxiv.org/abs/2407.00079, section 6.1 (queue plus prefill of what is not cached);
 * SGLang's cache-aware router, https://lmsys.org/blog/2024-12-04-sglang-v0-4/ (index on the gateway, guard).
 */
export function createPrefix(options: PrefixOptions = prefixDefaults): Policy {
  const index = new PrefixIndex(options)

  return {
    pick(candidates, call, context) {
      const blocks = call.prefixBlocks()
      const picked = isUneven(candidates, options.spreadMax)
        ? pickLeastLoaded(candidates, context)
        : pickFirstRead(candidates, { blocks, index, missFactor: options.missFactor }, context)
      index.add(picked.id, blocks)
      return picked
    },
  }
}

function pickFirstRead<C extends Candidate>(
  candidates: readonly C[],
  prompt: { blocks: readonly number[]; index: PrefixIndex; missFactor: number },
  context: PolicyContext,
): C {
  const { blocks, index } = prompt
  const basis = { nowMs: context.nowMs, averageMs: averageEstimateMs(candidates) }
  const bytesPerMiss = blockBytes * prompt.missFactor
  let best = candidates[0]!
  let bestWait = Number.POSITIVE_INFINITY
  let ties = 1
  for (const candidate of candidates) {
    const missing = blocks.length - index.match(candidate.id, blocks)
    const wait = expectWait(candidate, basis, missing * bytesPerMiss)
    if (wait > bestWait) continue
    ties = wait < bestWait ? 1 : ties + 1
    if (ties > 1 && context.random() * ties >= 1) continue
    best = candidate
    bestWait = wait
  }
  return best
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
