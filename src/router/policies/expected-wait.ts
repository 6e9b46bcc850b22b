import { readLatency } from '../../fleet/latency.ts'
import type { Candidate } from './policy.ts'

/** What a request in flight counts for, beside its waiting bytes: it makes each step of the batch longer. */
const requestBytes = 8192

/**
 * How long a request is expected to wait on `candidate`, in a unit that only serves to compare:
 *
 *   sqrt(estimate) * (waiting bytes + own bytes + 8192 * (in flight + 1)) / weight
 *
 * An engine takes prompts in one after another, so the bytes that wait there are its queue; those whose answer has
 * begun cost the newcomer little. The estimate tells fast instances from slow ones. Its root, because it has counted
 * the queue already and swings with the sizes of the latest prompts: unrooted, it fills some instances and leaves
 * others idle when answers are long.
 */
export function expectWait(
  candidate: Candidate,
  basis: { readonly nowMs: number; readonly averageMs: number },
  ownBytes: number,
): number {
  const work = candidate.waitingBytes + ownBytes + requestBytes * (candidate.inFlight + 1)
  return (Math.sqrt(readEstimate(candidate, basis)) * work) / candidate.weight
}

function readEstimate(
  { latency, inFlight }: Candidate,
  { nowMs, averageMs }: { readonly nowMs: number; readonly averageMs: number },
): number {
  if (latency.estimateMs === 0) return averageMs
  // While something is in flight there, news will come of itself. To fade on would send more and more after one slow
  // request before it has its first byte.
  return inFlight === 0 ? readLatency(latency, nowMs) : latency.estimateMs
}

/**
 * What an instance counts as before its first answer: the average of the others. As 0 ms it would be flooded until
 * that answer comes, and with a penalty it would starve.
 */
export function averageEstimateMs(candidates: readonly Candidate[]): number {
  let sum = 0
  let known = 0
  for (const { latency } of candidates) {
    if (latency.estimateMs === 0) continue
    sum += latency.estimateMs
    known += 1
  }
  return known === 0 ? 1 : sum / known
}
