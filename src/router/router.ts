import type { Clock } from '../core/clock.ts'
import { errorTable, fail, type ApiError } from '../core/errors.ts'
import type { Instance } from '../fleet/instance.ts'
import { recordFailure, recordSuccess, type EjectionLimits } from '../fleet/outlier.ts'
import type { Registry } from '../fleet/registry.ts'
import type { Logger } from '../telemetry/log.ts'
import { Attempt, type AttemptResult } from './attempt.ts'
import type { Call, Sink } from './call.ts'
import { Deadlines } from './deadlines.ts'
import type { Failure } from './failure.ts'
import type { Policy } from './policies/policy.ts'
import { policyFactories } from './policies/table.ts'
import { RetryBudget } from './retry-budget.ts'

type PolicyName = keyof typeof policyFactories

export type RoutingRules = {
  policy: PolicyName
  policies: Readonly<Record<string, PolicyName>>
  aliases: Readonly<Record<string, string>>
  fallbacks: Readonly<Record<string, readonly string[]>>
  retryRatio: number
  retryReserve: number
  attemptsMax: number
  /** From a request to the first data of its answer, on one instance. */
  firstByteMs: number
  /** Between two chunks of it. */
  idleMs: number
  ejection: EjectionLimits
}

export type RouterCounts = {
  retries: number
  retriesRefused: number
  ejections: number
}

/** How long a caller is asked to wait when nothing says more. */
const retryAfterDefaultMs = 1_000

/**
 * The only door to a model. Finds the instances of a model, lets the policy choose, tries another one while nothing
 * has reached the caller, and keeps account of who fails.
 */
export class Router {
  readonly counts: RouterCounts = { retries: 0, retriesRefused: 0, ejections: 0 }
  readonly #registry: Registry
  readonly #clock: Clock
  readonly #log: Logger
  readonly #random: () => number
  readonly #budget: RetryBudget
  readonly #deadlines: Deadlines
  readonly #context: { nowMs: number; random: () => number }
  /** Filled anew for each choice, which never waits: one array serves all calls. */
  readonly #candidates: Instance[] = []
  #rules: RoutingRules
  #policies = new Map<string, { name: PolicyName; policy: Policy }>()

  constructor(parts: {
    registry: Registry
    rules: RoutingRules
    clock: Clock
    log: Logger
    random?: () => number
  }) {
    this.#registry = parts.registry
    this.#rules = parts.rules
    this.#clock = parts.clock
    this.#log = parts.log
    this.#random = parts.random ?? Math.random
    this.#deadlines = new Deadlines(parts.clock)
    this.#context = { nowMs: 0, random: this.#random }
    const { retryRatio: ratio, retryReserve: reserve } = parts.rules
    this.#budget = new RetryBudget({ ratio, reserve, nowMs: parts.clock.now() })
  }

  /** Takes over new rules. A policy that stays the same keeps its memory. */
  configure(rules: RoutingRules): void {
    this.#rules = rules
    this.#budget.configure({ ratio: rules.retryRatio, reserve: rules.retryReserve })
    for (const [model, { name }] of this.#policies) {
      if ((lookUp(rules.policies, model) ?? rules.policy) !== name) this.#policies.delete(model)
    }
  }

  /** The model behind a name: itself, or what an alias stands for; null when nothing of this name is served. */
  resolve(name: string): string | null {
    if (this.#registry.has(name)) return name
    const target = lookUp(this.#rules.aliases, name)
    return target !== undefined && this.#isKnown(target) ? target : this.#isKnown(name) ? name : null
  }

  /** Names that callers may use beside the models' own. */
  get aliases(): Readonly<Record<string, string>> {
    return this.#rules.aliases
  }

  /**
   * Brings the answer to a call into `sink`. Throws an ApiError when there is none: before `sink.head` it is the
   * whole answer, after it the end of a broken one.
   */
  async run(call: Call, sink: Sink, signal: AbortSignal): Promise<void> {
    const model = this.resolve(call.model)
    if (model === null) {
      throw fail('model_not_found', {
        message: `The model \`${call.model.slice(0, 200)}\` is not served here; GET /v1/models lists those that are.`,
        param: 'model',
      })
    }
    this.#budget.deposit()
    const tried: Instance[] = []
    let last: Failure | null = null
    for (;;) {
      if (signal.aborted) throw fail('client_closed')
      const choice = this.#choose(model, call, tried)
      if (!choice) throw last ? toError(last) : this.#noInstance(model)
      if (last) {
        if (!this.#budget.withdraw(this.#clock.now())) {
          this.counts.retriesRefused += 1
          throw toError(last)
        }
        this.counts.retries += 1
      }
      tried.push(choice.instance)
      const { firstByteMs, idleMs } = this.#rules
      const parts = {
        call,
        sink,
        clock: this.#clock,
        number: tried.length,
        firstByteMs,
        idleMs,
        deadlines: this.#deadlines,
        ...choice,
      }
      const result = await new Attempt(parts).run(signal)
      const failure = this.#account(result, choice.instance, choice.model)
      if (result.kind === 'answered') return
      if (result.kind === 'cancelled' || failure === null) throw fail('client_closed')
      this.#log.warn(
        { requestId: call.id, instance: choice.instance.id, code: failure.code, problem: failure.message },
        'attempt failed',
      )
      if (result.committed || !failure.retryable || tried.length >= this.#rules.attemptsMax)
        throw toError(failure)
      last = failure
    }
  }

  /** An available instance that was not tried yet, of the model or else of its fallbacks. */
  #choose(
    model: string,
    call: Call,
    tried: readonly Instance[],
  ): { instance: Instance; model: string } | null {
    const instance = this.#pick(model, call, tried)
    if (instance) return { instance, model }
    for (const fallback of lookUp(this.#rules.fallbacks, model) ?? []) {
      const name = this.resolve(fallback)
      const other = name === null ? null : this.#pick(name, call, tried)
      if (name !== null && other) return { instance: other, model: name }
    }
    return null
  }

  #pick(model: string, call: Call, tried: readonly Instance[]): Instance | null {
    const nowMs = this.#clock.now()
    const candidates = this.#candidates
    candidates.length = 0
    for (const instance of this.#registry.of(model)) {
      if (instance.isAvailable(nowMs) && !tried.includes(instance)) candidates.push(instance)
    }
    if (candidates.length === 0) return null
    this.#context.nowMs = nowMs
    return this.#policyOf(model).pick(candidates, call, this.#context)
  }

  #policyOf(model: string): Policy {
    let entry = this.#policies.get(model)
    if (!entry) {
      const name = lookUp(this.#rules.policies, model) ?? this.#rules.policy
      entry = { name, policy: policyFactories[name]() }
      this.#policies.set(model, entry)
    }
    return entry.policy
  }

  /** Writes down what an attempt says about its instance; returns the failure if it was one. */
  #account(result: AttemptResult, instance: Instance, model: string): Failure | null {
    const nowMs = this.#clock.now()
    if (result.kind === 'cancelled') return null
    if (result.kind === 'answered') {
      recordSuccess(instance, this.#rules.ejection, nowMs)
      return null
    }
    const { failure } = result
    if (failure.busyForMs > 0) instance.busyUntilMs = nowMs + failure.busyForMs
    if (!failure.harmful) return failure
    const ejectedMs = recordFailure(instance, this.#registry.of(model), this.#rules.ejection, nowMs)
    if (ejectedMs > 0) {
      this.counts.ejections += 1
      this.#log.warn({ instance: instance.id, ejectedMs }, 'instance ejected after repeated failures')
    }
    return failure
  }

  #isKnown(model: string): boolean {
    return this.#registry.has(model) || Object.hasOwn(this.#rules.fallbacks, model)
  }

  #noInstance(model: string): ApiError {
    const instances = this.#registry.of(model)
    const nowMs = this.#clock.now()
    const waits = instances.map(
      ({ busyUntilMs, ejectedUntilMs }) => Math.max(busyUntilMs, ejectedUntilMs) - nowMs,
    )
    const soonestMs = Math.min(...waits.filter((wait) => wait > 0))
    const full = instances.filter((instance) => instance.inFlight >= instance.spec.inFlightMax).length
    return fail('no_instance', {
      message:
        `No instance of \`${model}\` is available now: ` +
        (full > 0
          ? `${full} of ${instances.length} are full.`
          : `all ${instances.length} are down or resting.`),
      retryAfterMs: Number.isFinite(soonestMs) ? soonestMs : retryAfterDefaultMs,
    })
  }
}

function toError(failure: Failure): ApiError {
  const waits = failure.busyForMs || (errorTable[failure.code].retryable ? retryAfterDefaultMs : 0)
  return fail(failure.code, { message: failure.message, ...(waits > 0 ? { retryAfterMs: waits } : {}) })
}

/** The entry of a configured mapping. A model may be called `constructor`. */
function lookUp<T>(mapping: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(mapping, key) ? mapping[key] : undefined
}
