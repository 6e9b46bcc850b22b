import type { CancelSignal } from '../core/cancellation.ts'
import type { Clock } from '../core/clock.ts'
import { errorTable, fail, type ApiError } from '../core/errors.ts'
import type { Instance } from '../fleet/instance.ts'
import type { Registry } from '../fleet/registry.ts'
import type { Logger } from '../telemetry/log.ts'
import { Attempt, type AttemptResult } from './attempt.ts'
import type { Call, Sink } from './call.ts'
import { Deadlines } from './deadlines.ts'
import type { Failure } from './failure.ts'
import { HealthBook, type HealthRules } from './health-book.ts'
import type { Policy } from './policies/policy.ts'
import { policyFactories } from './policies/table.ts'
import { Race } from './race.ts'
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
  /** After this long without a first byte a live call goes to a second instance too; 0 for never. */
  hedgeAfterMs: number
  health: HealthRules
}

export type RunOptions = {
  /** Somebody waits for the first byte: a slow one may be hedged. Tasks do not: they would take from those who do. */
  hedges: boolean
}

type Choice = { instance: Instance; model: string }

type RouterCounts = {
  retries: number
  retriesRefused: number
  hedges: number
  /** Hedges that the budget did not allow. */
  hedgesRefused: number
  /** Hedges that were faster than the first attempt. */
  hedgeWins: number
}

/** How long a caller is asked to wait when nothing says more. */
const retryAfterDefaultMs = 1_000

/**
 * The only door to a model. Finds the instances of a model, lets the policy choose, tries another one while nothing
 * has reached the caller, and leaves alone what fails.
 */
export class Router {
  readonly counts: RouterCounts = { retries: 0, retriesRefused: 0, hedges: 0, hedgesRefused: 0, hedgeWins: 0 }
  readonly health: HealthBook
  readonly #registry: Registry
  readonly #clock: Clock
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
    this.#random = parts.random ?? Math.random
    this.health = new HealthBook({ registry: parts.registry, log: parts.log, rules: parts.rules.health })
    this.#deadlines = new Deadlines(parts.clock)
    this.#context = { nowMs: 0, random: this.#random }
    const { retryRatio: ratio, retryReserve: reserve } = parts.rules
    this.#budget = new RetryBudget({ ratio, reserve, nowMs: parts.clock.now() })
  }

  /** Takes over new rules. A policy that stays the same keeps its memory; those of models that are gone are forgotten. */
  configure(rules: RoutingRules): void {
    this.#rules = rules
    this.health.configure(rules.health)
    this.#budget.configure({ ratio: rules.retryRatio, reserve: rules.retryReserve })
    for (const [model, { name }] of this.#policies) {
      const stays = this.#registry.has(model) && (lookUp(rules.policies, model) ?? rules.policy) === name
      if (!stays) this.#policies.delete(model)
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
  async run(call: Call, sink: Sink, signal: CancelSignal, options?: RunOptions): Promise<void> {
    let model = this.resolve(call.model)
    let thrown: unknown = null
    try {
      if (model === null) {
        throw fail('model_not_found', {
          message: `The model \`${call.model.slice(0, 200)}\` is not served here; GET /v1/models lists those that are.`,
          param: 'model',
        })
      }
      this.#budget.deposit()
      const asked = model
      const tried: Instance[] = []
      let last: Failure | null = null
      for (;;) {
        if (signal.aborted) throw fail('client_closed')
        const choice = this.#choose(asked, call, tried)
        if (last === null) {
          if (!choice) throw this.#noInstance(asked)
        } else {
          if (!choice) throw this.#giveUp(model, call, last)
          if (!this.#budget.withdraw(this.#clock.now())) {
            this.counts.retriesRefused += 1
            throw this.#giveUp(model, call, last)
          }
          this.counts.retries += 1
          if (choice.model !== model) this.health.lost(model, call, last, this.#clock.now())
        }
        model = choice.model
        this.health.breakerOf(model).enter(call, this.#context.nowMs)
        const hedgeAfterMs = options?.hedges === true ? this.#rules.hedgeAfterMs : 0
        const attempt = this.#begin(call, sink, choice, tried, hedgeAfterMs)
        const result =
          hedgeAfterMs > 0 ? await this.#race(attempt, sink, tried, signal) : await attempt.run(signal)
        if (result.kind === 'answered') return
        if (result.kind === 'cancelled') throw fail('client_closed')
        const { failure } = result
        // A part of the answer is with the caller: the book knows of that already.
        if (result.committed) throw toError(failure)
        if (!failure.retryable || tried.length >= this.#rules.attemptsMax)
          throw this.#giveUp(model, call, failure)
        last = failure
      }
    } catch (error) {
      thrown = error
      throw error
    } finally {
      // A trial that has said nothing of its model makes room for the next one.
      if (model !== null) this.health.breakerOf(model).leave(call)
      sink.settled?.(thrown)
    }
  }

  /** An attempt on what was chosen, not yet begun. */
  #begin(call: Call, sink: Sink, choice: Choice, tried: Instance[], hedgeAfterMs: number): Attempt {
    tried.push(choice.instance)
    return new Attempt({
      call,
      sink,
      clock: this.#clock,
      nowMs: this.#context.nowMs,
      number: tried.length,
      firstByteMs: this.#rules.firstByteMs,
      idleMs: this.#rules.idleMs,
      hedgeAfterMs,
      deadlines: this.#deadlines,
      book: this.health,
      instance: choice.instance,
      model: choice.model,
    })
  }

  /** Runs an attempt, and a second one beside it when it is slow. */
  async #race(first: Attempt, sink: Sink, tried: Instance[], signal: CancelSignal): Promise<AttemptResult> {
    const race = new Race(() => this.#hedge(first, sink, tried), signal)
    const result = await race.run(first)
    if (race.secondWon) this.counts.hedgeWins += 1
    return result
  }

  /** The second attempt at a call whose first is slow: on another instance of the same model, within the budget. */
  #hedge({ call, model }: Attempt, sink: Sink, tried: Instance[]): Attempt | null {
    if (tried.length >= this.#rules.attemptsMax) return null
    const instance = this.#pick(model, call, tried)
    if (!instance) return null
    if (!this.#budget.withdraw(this.#clock.now())) {
      this.counts.hedgesRefused += 1
      return null
    }
    this.counts.hedges += 1
    return this.#begin(call, sink, { instance, model }, tried, 0)
  }

  /** An available instance that was not tried yet, of the model or else of its fallbacks. */
  #choose(model: string, call: Call, tried: readonly Instance[]): Choice | null {
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
    if (!this.health.breakerOf(model).allows(nowMs, call)) return null
    const instances = this.#registry.of(model)
    const candidates = this.#candidates
    candidates.length = 0
    for (const instance of instances) {
      if (instance.isAvailable(nowMs) && !tried.includes(instance)) candidates.push(instance)
    }
    // Half-working instances are better than none: when nobody else is there, their breakers are passed over.
    if (candidates.length === 0 && !instances.some((instance) => instance.isServing(nowMs))) {
      for (const instance of instances) {
        if (instance.hasRoom(nowMs) && !tried.includes(instance)) candidates.push(instance)
      }
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

  /** No instance had an answer to a call. */
  #giveUp(model: string, call: Call, failure: Failure): ApiError {
    this.health.lost(model, call, failure, this.#clock.now())
    return toError(failure)
  }

  #isKnown(model: string): boolean {
    return this.#registry.has(model) || Object.hasOwn(this.#rules.fallbacks, model)
  }

  #noInstance(model: string): ApiError {
    const nowMs = this.#clock.now()
    const breaker = this.health.breakerOf(model)
    if (!breaker.allows(nowMs)) {
      return fail('circuit_open', {
        message: `Nearly all recent calls of \`${model}\` have failed: it is left alone for a moment.`,
        retryAfterMs: breaker.waitMs(nowMs) || retryAfterDefaultMs,
      })
    }
    const instances = this.#registry.of(model)
    const waits = instances.map(({ busyUntilMs, ejectedUntilMs, breaker }) =>
      Math.max(busyUntilMs - nowMs, ejectedUntilMs - nowMs, breaker.waitMs(nowMs)),
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
