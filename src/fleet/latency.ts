import type { LatencyEstimate } from './instance.ts'

/**
 * The memory of the estimate: after this long without samples, the next one counts for two thirds. Long, because
 * prompts differ in size by a hundred times and a single one says little about its instance.
 */
const averageTauMs = 60_000

/** How fast the estimate of an idle instance fades: one three times as slow is tried again after five minutes. */
const fadeTauMs = 300_000

/**
 * Exponentially weighted moving average of the time to the first byte. Weighted by time and not by count, so that a
 * busy instance does not forget faster than an idle one.
 *
 * Finagle's metric, which it comes from, jumps at once to a new peak. There all requests are about as long, and a
 * peak means a sick instance; here it mostly means a long prompt. Without the jump the slowest hundredth of the
 * requests waits a few per cent less in a mixed fleet; a stalled instance shows sooner in what waits for it.
 * docs/routing.md has the figures. Source: https://twitter.github.io/finagle/guide/Clients.html
 */
export function observeLatency(latency: LatencyEstimate, sampleMs: number, nowMs: number): void {
  const isFirst = latency.estimateMs === 0
  const keep = isFirst ? 0 : Math.exp(-Math.max(0, nowMs - latency.updatedAtMs) / averageTauMs)
  latency.estimateMs = latency.estimateMs * keep + sampleMs * (1 - keep)
  latency.updatedAtMs = nowMs
}

/** The estimate as of now: one that nothing has confirmed fades, so that a once slow instance is tried again. */
export function readLatency(latency: Readonly<LatencyEstimate>, nowMs: number): number {
  return latency.estimateMs * Math.exp(-Math.max(0, nowMs - latency.updatedAtMs) / fadeTauMs)
}
