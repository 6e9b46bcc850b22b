import type { LatencyEstimate } from './instance.ts'

/** How fast an old peak is forgotten: after this long without samples a third of it is left. */
export const latencyTauMs = 10_000

/**
 * Peak-EWMA of the time to the first byte: rises at once to a new peak, decays slowly towards lower samples.
 * Source: Finagle's Peak EWMA load metric, https://twitter.github.io/finagle/guide/Clients.html
 */
export function observeLatency(latency: LatencyEstimate, sampleMs: number, nowMs: number): void {
  if (sampleMs > latency.estimateMs) {
    latency.estimateMs = sampleMs
  } else {
    const keep = Math.exp(-Math.max(0, nowMs - latency.updatedAtMs) / latencyTauMs)
    latency.estimateMs = latency.estimateMs * keep + sampleMs * (1 - keep)
  }
  latency.updatedAtMs = nowMs
}

/** The estimate as of now: a peak that nothing has confirmed fades, so that a once slow instance is tried again. */
export function readLatency(latency: Readonly<LatencyEstimate>, nowMs: number): number {
  return latency.estimateMs * Math.exp(-Math.max(0, nowMs - latency.updatedAtMs) / latencyTauMs)
}
