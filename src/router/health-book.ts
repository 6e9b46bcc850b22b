import { Breaker, type BreakerLimits } from '../fleet/breaker.ts'
import type { Instance } from '../fleet/instance.ts'
import { recordFailure, recordSuccess, tripOutlier, type EjectionLimits } from '../fleet/outlier.ts'
import type { Registry } from '../fleet/registry.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Call } from './call.ts'
import type { Failure } from './failure.ts'

export type HealthRules = EjectionLimits &
  BreakerLimits & {
    /** Time to the first byte from which a call is slow; 0 for never. */
    breakerSlowMs: number
  }

/** A try of a call, as far as the book is concerned. It is also what has the trial of its instance's breaker. */
export type Tried = {
  readonly call: Call
  readonly instance: Instance
  readonly model: string
  /** From the request to the first data of its answer, or until now while there is none. */
  waitedMs(nowMs: number): number
}

/** The breaker of a model opens when nearly all calls fail; a smaller share is the instances' own matter. */
const modelShareMin = 0.9

/**
 * Keeps account of who fails, and takes what fails out of the traffic. Each thing is held by one hand at a time:
 *
 *   ejection             an instance that fails again and again, in a row
 *   instance's breaker   one that fails, or is slow, every other time; rests while the instance is ejected, and
 *                        ejection counts nothing while it is not closed
 *   model's breaker      all instances together: calls that no instance answered, whatever was tried
 */
export class HealthBook {
  ejections = 0
  readonly #registry: Registry
  readonly #log: Logger
  readonly #models = new Map<string, Breaker>()
  #rules: HealthRules
  #modelRules: BreakerLimits

  constructor(parts: { registry: Registry; log: Logger; rules: HealthRules }) {
    this.#registry = parts.registry
    this.#log = parts.log
    this.#rules = parts.rules
    this.#modelRules = toModelRules(parts.rules)
  }

  /** Takes over new rules, and forgets models that are no more. */
  configure(rules: HealthRules): void {
    this.#rules = rules
    this.#modelRules = toModelRules(rules)
    for (const model of this.#models.keys()) if (!this.#registry.has(model)) this.#models.delete(model)
  }

  /** The breakers of the models that were called. */
  get models(): ReadonlyMap<string, Breaker> {
    return this.#models
  }

  breakerOf(model: string): Breaker {
    let breaker = this.#models.get(model)
    if (!breaker) {
      breaker = new Breaker()
      this.#models.set(model, breaker)
    }
    return breaker
  }

  /** An attempt has an answer for the caller, if only the begin of one: its trial is passed. */
  answered(tried: Tried, nowMs: number): void {
    const { instance } = tried
    if (nowMs >= instance.ejectedUntilMs) {
      this.#noteInstance(tried, this.#isSlow(tried, nowMs) ? 'slow' : 'success', nowMs)
    }
    const breaker = this.breakerOf(tried.model)
    const before = breaker.state
    breaker.note('success', tried.call, nowMs, this.#modelRules)
    if (breaker.state !== before) this.#log.info({ model: tried.model }, 'breaker of the model closed')
  }

  /** An answer has come to its end. */
  completed({ instance }: Tried, nowMs: number): void {
    recordSuccess(instance, this.#rules, nowMs)
  }

  /** An attempt failed. `committed` when a part of the answer had reached the caller. */
  failed(tried: Tried, failure: Failure, committed: boolean, nowMs: number): void {
    const { call, instance, model } = tried
    this.#log.warn(
      { requestId: call.id, instance: instance.id, code: failure.code, problem: failure.message },
      'attempt failed',
    )
    if (failure.busyForMs > 0) instance.busyUntilMs = nowMs + failure.busyForMs
    if (!failure.harmful) return
    if (committed) {
      const breaker = this.breakerOf(model)
      if (breaker.noteLateFailure(nowMs, this.#modelRules)) this.#tripModel(model, breaker, nowMs)
    }
    if (instance.breaker.state === 'closed' && this.#eject(instance, model, nowMs)) return
    if (nowMs < instance.ejectedUntilMs) return
    if (!committed) return this.#noteInstance(tried, 'failure', nowMs)
    // What was slow already counts once.
    if (this.#isSlow(tried, nowMs)) return
    const complaint = instance.breaker.noteLateFailure(nowMs, this.#rules)
    if (complaint) this.#tripInstance(tried, complaint, nowMs)
  }

  /** An attempt was cut off without an answer: no failure, but slow it may have been. */
  cutOff(tried: Tried, nowMs: number): void {
    if (nowMs < tried.instance.ejectedUntilMs) return
    if (this.#isSlow(tried, nowMs)) this.#noteInstance(tried, 'slow', nowMs)
  }

  /** No instance of a model had an answer to a call. Those that were merely busy have not failed. */
  lost(model: string, call: Call, failure: Failure, nowMs: number): void {
    const breaker = this.breakerOf(model)
    if (failure.harmful) {
      const before = breaker.state
      if (breaker.note('failure', call, nowMs, this.#modelRules)) this.#tripModel(model, breaker, nowMs)
      else if (breaker.state !== before) this.#log.warn({ model }, 'breaker of the model open again')
    }
    breaker.leave(call)
  }

  #isSlow(tried: Tried, nowMs: number): boolean {
    const { breakerSlowMs } = this.#rules
    return breakerSlowMs > 0 && tried.waitedMs(nowMs) >= breakerSlowMs
  }

  #noteInstance(tried: Tried, outcome: 'success' | 'failure' | 'slow', nowMs: number): void {
    const { id, breaker } = tried.instance
    const before = breaker.state
    const complaint = breaker.note(outcome, tried, nowMs, this.#rules)
    if (complaint) return this.#tripInstance(tried, complaint, nowMs)
    if (breaker.state === before) return
    if (breaker.state === 'closed') this.#log.info({ instance: id }, 'breaker of the instance closed')
    else this.#log.warn({ instance: id }, 'breaker of the instance open again')
  }

  #tripInstance({ instance, model }: Tried, complaint: 'failing' | 'slow', nowMs: number): void {
    const openMs = tripOutlier(instance, complaint, this.#registry.of(model), this.#rules, nowMs)
    if (openMs > 0)
      this.#log.warn({ instance: instance.id, openMs, complaint }, 'breaker of the instance open')
  }

  #tripModel(model: string, breaker: Breaker, nowMs: number): void {
    const openMs = breaker.trip(nowMs, this.#modelRules)
    this.#log.warn({ model, openMs }, 'breaker of the model open')
  }

  #eject(instance: Instance, model: string, nowMs: number): boolean {
    const ejectedMs = recordFailure(instance, this.#registry.of(model), this.#rules, nowMs)
    if (ejectedMs === 0) return false
    instance.breaker.forget()
    this.ejections += 1
    this.#log.warn({ instance: instance.id, ejectedMs }, 'instance ejected after repeated failures')
    return true
  }
}

const toModelRules = (rules: HealthRules): BreakerLimits => ({
  ...rules,
  breakerShare: Math.max(rules.breakerShare, modelShareMin),
})
