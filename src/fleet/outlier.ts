import type { BreakerLimits, Complaint } from './breaker.ts'
import type { Instance } from './instance.ts'

export type EjectionLimits = {
  ejectAfterFailures: number
  ejectBaseMs: number
  /** Largest share of the peers that may be ejected at once, 0 to 1. */
  ejectShareMax: number
}

/**
 * Takes an instance that fails again and again out of the traffic for a while. After that it gets one chance: a
 * single further failure ejects it for longer.
 * Source: Envoy's outlier detection (consecutive failures, base time multiplied by the number of ejections),
 * https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier
 *
 * Returns for how long the instance was ejected, in ms, or 0.
 */
export function recordFailure(
  instance: Instance,
  peers: readonly Instance[],
  limits: EjectionLimits,
  nowMs: number,
): number {
  instance.failuresConsecutive += 1
  if (instance.failuresConsecutive < limits.ejectAfterFailures || nowMs < instance.ejectedUntilMs) return 0
  const ejected = peers.reduce((count, peer) => count + (nowMs < peer.ejectedUntilMs ? 1 : 0), 0)
  if (ejected + 1 > limits.ejectShareMax * peers.length) return 0
  instance.ejections += 1
  const lengthMs = limits.ejectBaseMs * instance.ejections
  instance.ejectedUntilMs = nowMs + lengthMs
  instance.failuresConsecutive = limits.ejectAfterFailures - 1
  return lengthMs
}

/** A success wipes the failures; ejections are forgotten once the instance has stayed well for as long as the last. */
export function recordSuccess(instance: Instance, limits: EjectionLimits, nowMs: number): void {
  instance.failuresConsecutive = 0
  if (instance.ejections > 0 && nowMs > instance.ejectedUntilMs + limits.ejectBaseMs * instance.ejections) {
    instance.ejections = 0
  }
}

/**
 * Opens the breaker of an instance that its calls complain of, unless that would do more harm than good:
 * - of the peers that are ready, no more than `ejectShareMax` may be out, ejections included, and never the last one;
 * - when most of the others are as slow, the load is at fault and not the instance.
 *
 * Returns for how long the breaker opened, in ms, or 0.
 */
export function tripOutlier(
  instance: Instance,
  complaint: Complaint,
  peers: readonly Instance[],
  limits: EjectionLimits & BreakerLimits,
  nowMs: number,
): number {
  let ready = 0
  let out = 0
  let well = 0
  for (const peer of peers) {
    if (peer.state !== 'ready') continue
    ready += 1
    if (nowMs < peer.ejectedUntilMs || peer.breaker.state !== 'closed') out += 1
    else if (peer !== instance && !peer.breaker.isTroubled(nowMs, limits)) well += 1
  }
  if (out + 1 > limits.ejectShareMax * ready || out + 1 >= ready) return 0
  if (complaint === 'slow' && well * 2 < ready - out - 1) return 0
  // What has led to this must not eject it as well, once it is back.
  instance.failuresConsecutive = 0
  return instance.breaker.trip(nowMs, limits)
}

/** A new process under the old name: what its predecessor did is not held against it. */
export function forgive(instance: Instance): void {
  instance.failuresConsecutive = 0
  instance.ejections = 0
  instance.ejectedUntilMs = 0
  instance.busyUntilMs = 0
  instance.breaker.forgive()
}
