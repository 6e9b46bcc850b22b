import { pickShortestWait } from './peak-ewma.ts'
import type { Candidate, Policy } from './policy.ts'

type SessionOptions = {
  /** An instance takes at most this many times its fair share of the requests in flight. */
  loadFactor: number
  /**
   * Below so many in flight for its weight an instance is never passed over. The share alone allows one request an
   * instance in a quiet hour, and would then send half of the sessions away from instances that are all but idle.
   */
  inFlightFree: number
}

export const sessionDefaults: SessionOptions = { loadFactor: 1.25, inFlightFree: 4 }

/** Longer keys are told apart by their beginning only, so that a key cannot be made to cost much. */
const keyCharsMax = 256

/**
 * Consistent hashing with bounded load. Each session ranks the instances by weighted rendezvous hashing and goes to
 * the first of its ranking that is not over its bounded share of the requests in flight. No memory: when an
 * instance leaves, only its own sessions move, spread over all others; when it returns, exactly they move back.
 * A call without a session goes where `peak_ewma` would send it.
 * Sources: Mirrokni, Thorup, Zadimoghaddam, Consistent Hashing with Bounded Loads, https://arxiv.org/abs/1608.01350;
 * Thaler, Ravishankar, A Name-Based Mapping Scheme for Rendezvous, 1996; weights after Schindelhauer, Schomaker,
 * Weighted Distributed Hash Tables, SPAA 2005.
 */
export function createSession(options: SessionOptions = sessionDefaults): Policy {
  return {
    pick(candidates, call, context) {
      if (call.sessionKey === null || call.sessionKey === '') return pickShortestWait(candidates, context)
      return pickBySession(candidates, call.sessionKey, options)
    },
  }
}

function pickBySession<C extends Candidate>(
  candidates: readonly C[],
  sessionKey: string,
  { loadFactor, inFlightFree }: SessionOptions,
): C {
  let inFlight = 1
  let weights = 0
  for (const candidate of candidates) {
    inFlight += candidate.inFlight
    weights += candidate.weight
  }
  const allowedPerWeight = Math.max(inFlightFree, (loadFactor * inFlight) / weights)
  const keyHash = hashText(sessionKey, 0x811c9dc5)
  let best = candidates[0]!
  let bestScore = -1
  for (const candidate of candidates) {
    // The bounds add up to more than the requests in flight, so one candidate at least is below its own.
    if (candidate.inFlight >= Math.ceil(allowedPerWeight * candidate.weight)) continue
    const score = scoreRendezvous(keyHash, candidate)
    if (score > bestScore) {
      best = candidate
      bestScore = score
    }
  }
  return best
}

/** -weight / ln(u), u uniform in (0, 1) by session and instance: the largest falls to each in proportion to weight. */
function scoreRendezvous(keyHash: number, candidate: Candidate): number {
  const uniform = (mix(hashText(candidate.id, keyHash)) + 0.5) / 0x1_0000_0000
  return -candidate.weight / Math.log(uniform)
}

/** FNV-1a over UTF-16 units, http://www.isthe.com/chongo/tech/comp/fnv/ */
function hashText(text: string, seed: number): number {
  let hash = seed
  const end = Math.min(text.length, keyCharsMax)
  for (let i = 0; i < end; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash
}

/** The finaliser of MurmurHash3: similar ids must not give similar scores. Returns an unsigned 32-bit integer. */
function mix(hash: number): number {
  let mixed = hash
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return (mixed ^ (mixed >>> 16)) >>> 0
}
