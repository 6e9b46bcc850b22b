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

/** A new process under the old name: what its predecessor did is not held against it. */
export function forgive(instance: Instance): void {
  instance.failuresConsecutive = 0
  instance.ejections = 0
  instance.ejectedUntilMs = 0
  instance.busyUntilMs = 0
}
