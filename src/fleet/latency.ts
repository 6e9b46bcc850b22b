import type { LatencyEstimate } from './instance.ts'

/**
 * The memory of the estimate: a sample after this long without another counts for two thirds. Long, because prompts
 * differ in size by a hundred times and a single one says little about its instance; docs/routing.md has the figures.
 */
export const latencyTauMs = 60_000

/**
 * An exponentially weighted moving average of the time to the first byte, weighted by time, so that a busy instance
 * does not forget faster than an idle one.
 *
 * It does not jump to a new peak, as Finagle's Peak EWMA does: there a request is as long as another, and a peak
 * means a sick instance; here it means a long prompt, and shunning the instance for it made the slowest hundredth of
 * requests wait up to half as long again. A stalled instance shows sooner in what waits for it.
 * Source: Finagle's load metric, https://twitter.github.io/finagle/guide/Clients.html, changed as said.
 */
export function observeLatency(latency: LatencyEstimate, sampleMs: number, nowMs: number): void {
  const keep =
    latency.estimateMs === 0 ? 0 : Math.exp(-Math.max(0, nowMs - latency.updatedAtMs) / latencyTauMs)
  latency.estimateMs = latency.estimateMs * keep + sampleMs * (1 - keep)
  latency.updatedAtMs = nowMs
}

/** The estimate as of now for an idle instance: it fades, so that a once slow instance is tried again. */
export function readLatency(latency: Readonly<LatencyEstimate>, nowMs: number): number {
  return latency.estimateMs * Math.exp(-Math.max(0, nowMs - latency.updatedAtMs) / latencyTauMs)
}
