import type { Clock } from '../core/clock.ts'
import type { Service } from '../core/service.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Instance } from './instance.ts'
import type { Registry } from './registry.ts'

type ProbeLimits = {
  probeIntervalMs: number
  probeTimeoutMs: number
  probeFailuresMax: number
}

const probeBytesMax = 1024 * 1024

/**
 * Asks every instance at an interval whether it is well. After some failures in a row an instance gets no traffic;
 * one good answer brings it back. `onUnwell` hears of the failing ones: the launcher restarts a local process that
 * hangs, which no failing request would show before its timeout.
 */
export class Prober implements Service {
  readonly name = 'prober'
  readonly #registry: Registry
  readonly #limits: () => ProbeLimits
  readonly #clock: Clock
  readonly #log: Logger
  readonly #onUnwell: (instance: Instance) => void
  readonly #failures = new WeakMap<Instance, number>()
  readonly #busy = new Set<Instance>()
  #stopTicking: (() => void) | null = null

  constructor(parts: {
    registry: Registry
    limits: () => ProbeLimits
    clock: Clock
    log: Logger
    onUnwell: (instance: Instance) => void
  }) {
    this.#registry = parts.registry
    this.#limits = parts.limits
    this.#clock = parts.clock
    this.#log = parts.log
    this.#onUnwell = parts.onUnwell
  }

  start(): Promise<void> {
    this.#stopTicking ??= this.#clock.every(this.#limits().probeIntervalMs, () => this.#tick())
    return Promise.resolve()
  }

  stop(): Promise<void> {
    this.#stopTicking?.()
    this.#stopTicking = null
    return Promise.resolve()
  }

  #tick(): void {
    for (const instance of this.#registry.all) {
      const probed = instance.state === 'ready' || instance.state === 'unready'
      // A probe that still waits for its answer is not asked again: it will time out by itself.
      if (probed && instance.spec.probe !== 'off' && !this.#busy.has(instance)) void this.probe(instance)
    }
  }

  /** Probes one instance now and acts on what it says; true when it is well. */
  async probe(instance: Instance): Promise<boolean> {
    this.#busy.add(instance)
    const problem = await this.#ask(instance)
    this.#busy.delete(instance)
    // It may have been drained or have crashed while it was asked.
    if (instance.state === 'draining' || instance.state === 'stopped' || instance.state === 'crashed')
      return false
    if (problem === null) {
      this.#failures.delete(instance)
      if (instance.state === 'unready') this.#log.info({ instance: instance.id }, 'instance is well again')
      this.#registry.move(instance, 'ready')
      return true
    }
    const failures = (this.#failures.get(instance) ?? 0) + 1
    this.#failures.set(instance, failures)
    if (failures >= this.#limits().probeFailuresMax || instance.state === 'starting') {
      if (instance.state !== 'unready')
        this.#log.warn({ instance: instance.id, problem }, 'instance is not well')
      this.#registry.move(instance, 'unready')
      this.#failures.delete(instance)
      this.#onUnwell(instance)
    }
    return false
  }

  /** What is wrong with the instance, or null. */
  async #ask(instance: Instance): Promise<string | null> {
    const health = instance.spec.probe === 'health'
    try {
      const { status } = await instance.connections.getJson(health ? '/health' : '/models', {
        timeoutMs: this.#limits().probeTimeoutMs,
        bytesMax: probeBytesMax,
        absolute: health,
      })
      // A server that has no such page, or wants another key for it, is alive all the same.
      return status < 500 ? null : `its probe answered ${status}`
    } catch (error) {
      return error instanceof Error ? error.message || error.name : String(error)
    }
  }
}
