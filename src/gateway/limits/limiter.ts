import type { Config, TenantSettings } from '../../config/schema.ts'
import type { Clock } from '../../core/clock.ts'
import type { Service } from '../../core/service.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { ServiceTier } from '../../router/calls/completion-call.ts'
import type { Caller } from '../auth/caller.ts'
import { findObstacle, isThere, takeAll, type Cost } from './cost.ts'
import { lookAtFleet, steadyState, type FleetHealth, type Shares } from './dynamic.ts'
import { localMeters } from './meter.ts'
import { freePass, TakenPass, type Pass } from './pass.ts'
import { viewRates } from './rate-headers.ts'
import { LimitRefusal } from './refusal.ts'
import type { Scope, ScopeKind } from './scope.ts'
import { isUnlimited, ScopeBook } from './scope-book.ts'
import type { Authority } from './shared/authority.ts'
import { Link } from './shared/link.ts'
import { SharedMeters } from './shared/shared-meters.ts'

export type { Pass } from './pass.ts'

export type LimitRequest = {
  caller: Caller
  settings: TenantSettings
  /** The model itself, where the caller named an alias: names of the caller's invention must not become limits. */
  model: string
  tier: ServiceTier
  /** Estimate of the prompt and the answer together. */
  tokens: number
}

/** Which limit was in the way, for the metrics. */
export type RefusedBy = { scope: ScopeKind; unit: 'requests' | 'tokens' | 'concurrent' }

export type LimiterParts = {
  settings: () => Config['limits']
  clock: Clock
  log: Logger
  /** How the fleet fares, asked twice a second. */
  health: () => FleetHealth
  /** Where several servers keep their limits together; null for this process alone. */
  authority: Authority | null
  /** For an answer of the authority; 50 ms when left out. Then this server goes on with its share. */
  budgetMs?: number
  onRefused?: (by: RefusedBy) => void
}

const lookMs = 500

/** Says how much may come: rates and requests at once of tenants, keys and models, as one decision. */
export class Limiter implements Service {
  readonly name = 'limits'
  readonly #parts: LimiterParts
  readonly #clock: Clock
  readonly #now: () => number
  readonly #link: Link | null
  readonly #shared: SharedMeters | null
  readonly #book: ScopeBook
  #dynamic = steadyState
  #stopLooking: (() => void) | null = null

  constructor(parts: LimiterParts) {
    const { authority, clock, log, budgetMs } = parts
    this.#parts = parts
    this.#clock = clock
    this.#now = () => clock.now()
    this.#link = authority === null ? null : new Link({ authority, clock, log, budgetMs })
    this.#shared = this.#link === null ? null : new SharedMeters(this.#link)
    this.#book = new ScopeBook(this.#shared ?? localMeters)
  }

  /** Tenants, keys and models that are counted now. */
  get scopes(): number {
    return this.#book.size
  }

  /** By what rates are multiplied now. */
  get shares(): Shares {
    return this.#dynamic.shares
  }

  /** Servers that share the limits, as far as was last known; 1 without an authority. */
  get replicas(): number {
    return this.#link?.replicas ?? 1
  }

  /** What is wrong with the sharing, in a sentence; null when nothing is. */
  get problem(): string | null {
    if (this.#link === null || !this.#link.isDown) return null
    const { title, reason, replicas } = this.#link
    const share = replicas === 1 ? 'the whole of each limit' : `a share of 1/${replicas} of each limit`
    return `${title} is away (${reason ?? 'not started'}); this server goes on with ${share}.`
  }

  async start(): Promise<void> {
    this.#stopLooking ??= this.#clock.every(lookMs, () => this.#look())
    await this.#link?.start()
  }

  async stop(): Promise<void> {
    this.#stopLooking?.()
    this.#stopLooking = null
    await this.#link?.stop()
  }

  /**
   * Lets a request in, or throws rate_limited or concurrency_limited with the time after which it would pass. A promise
   * only where the authority has to be asked. Nothing is taken of any limit unless all of them have enough.
   */
  enter(request: LimitRequest): Pass | Promise<Pass> {
    const { models, burstMs } = this.#parts.settings()
    if (isUnlimited(request, models)) return freePass
    const nowMs = this.#clock.now()
    const scopes = this.#book.find(request, models, burstMs, nowMs)
    const share = this.#dynamic.shares[request.tier]
    const cost: Cost = { requests: 1 / share, tokens: Math.max(0, request.tokens) / share }
    if (isThere(scopes, cost, nowMs)) return this.#take(scopes, cost, share, nowMs)
    const asked = this.#shared?.ask(scopes, cost, nowMs, () => this.#decide(scopes, cost, share)) ?? null
    return asked ?? this.#decide(scopes, cost, share)
  }

  #decide(scopes: readonly Scope[], cost: Cost, share: number): Pass {
    const nowMs = this.#clock.now()
    if (isThere(scopes, cost, nowMs)) return this.#take(scopes, cost, share, nowMs)
    const obstacle = findObstacle(scopes, cost, nowMs)
    this.#parts.onRefused?.({ scope: obstacle.scope.kind, unit: obstacle.unit })
    throw new LimitRefusal(obstacle, viewRates(scopes, share, nowMs), share)
  }

  #take(scopes: readonly Scope[], cost: Cost, share: number, nowMs: number): Pass {
    const tokens = takeAll(scopes, cost, nowMs)
    return new TakenPass(scopes, { cost, tokens, share }, this.#now)
  }

  #look(): void {
    const { dynamic, floor, ceiling } = this.#parts.settings()
    this.#dynamic = dynamic
      ? lookAtFleet(this.#dynamic, this.#parts.health(), { floor, ceiling, nowMs: this.#clock.now() })
      : steadyState
  }
}
