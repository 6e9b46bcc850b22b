import { strict as assert } from 'node:assert'
import { CallWindow, type CallOutcome } from './call-window.ts'

/** What a breaker can be, and what makes it become what. Anything else is a bug and throws. */
const next = {
  closed: { trip: 'open', forgive: 'closed' },
  open: { wake: 'half_open', forgive: 'closed' },
  half_open: { succeed: 'closed', fail: 'open', forgive: 'closed' },
} as const satisfies Record<string, Record<string, string>>

export type BreakerState = keyof typeof next
export type BreakerEvent = 'trip' | 'wake' | 'succeed' | 'fail' | 'forgive'
export const breakerStates = Object.keys(next) as readonly BreakerState[]

/** The state that an event leads to; null where it can't happen. */
export function nextState(state: BreakerState, event: BreakerEvent): BreakerState | null {
  const row: Partial<Record<BreakerEvent, BreakerState>> = next[state]
  return row[event] ?? null
}

export type BreakerLimits = {
  /** How far back it looks. */
  breakerWindowMs: number
  /** Calls in that time before it judges. */
  breakerCallsMin: number
  /** Share of failed or slow calls from which on something is wrong, above 0 to 1. */
  breakerShare: number
  /** How long it is open for the first time; twice as long each further time. */
  breakerOpenMs: number
}

/** What speaks for opening: failures do alone, or only together with slow calls. */
export type Complaint = 'failing' | 'slow'

/** It is never open for longer than so many times `breakerOpenMs`. */
const openTimesMax = 16

/**
 * A circuit breaker. Closed, it counts how calls go. Open, it lets none through. After a while it is half open and
 * lets one call at a time through, its trial: what comes of that closes it, or opens it for longer. A trial that says
 * nothing (its caller left, the instance was busy) makes room for the next one.
 *
 * It never opens by itself: it complains, and whoever knows the peers decides (`outlier.ts`). It reads no clock and
 * sets no timer: that its time is over shows when somebody asks.
 *
 * Source: M. Nygard's pattern as https://martinfowler.com/bliki/CircuitBreaker.html tells it, with the rate window and
 * the minimum of calls of https://resilience4j.readme.io/docs/circuitbreaker.
 */
export class Breaker {
  /** Transitions into each state since the start. */
  readonly entries: Record<BreakerState, number> = { closed: 0, open: 0, half_open: 0 }
  readonly #window = new CallWindow()
  #state: BreakerState = 'closed'
  #openUntilMs = 0
  #openMs = 0
  /** How often it has opened without having been well for long in between. */
  #openings = 0
  #closedAtMs = 0
  /** Whoever has the trial of a half-open breaker. */
  #trial: object | null = null

  get state(): BreakerState {
    return this.#state
  }

  /** Whether `caller` may pass now: it has the trial already, or could have it. */
  allows(nowMs: number, caller: object | null = null): boolean {
    if (this.#state === 'closed') return true
    if (this.#state === 'open') return nowMs >= this.#openUntilMs
    return this.#trial === null || this.#trial === caller
  }

  /** How long it stays open, in ms; 0 when it is not, or no longer. */
  waitMs(nowMs: number): number {
    return this.#state === 'open' ? Math.max(0, this.#openUntilMs - nowMs) : 0
  }

  /** A call passes. It is the trial if there is one to be had; one that passes in spite of the breaker is none. */
  enter(caller: object, nowMs: number): void {
    if (this.#state === 'closed' || !this.allows(nowMs, caller)) return
    if (this.#state === 'open') this.#move('wake')
    this.#trial = caller
  }

  /** A call is over, or says nothing: another one may be the trial. */
  leave(caller: object): void {
    if (this.#trial === caller) this.#trial = null
  }

  /**
   * Notes how a call went. Only the trial counts while the breaker is not closed: the others are from before, or
   * passed in spite of it. Returns the complaint of a closed breaker.
   */
  note(outcome: CallOutcome, caller: object, nowMs: number, limits: BreakerLimits): Complaint | null {
    if (this.#state === 'closed') {
      this.#window.add(outcome, nowMs, limits.breakerWindowMs)
      return outcome === 'success' ? null : this.complain(nowMs, limits)
    }
    if (this.#trial !== caller) return null
    if (outcome === 'success') this.#close(nowMs)
    else this.#open('fail', nowMs, limits)
    return null
  }

  /** A call that was noted as a success broke off later. */
  noteLateFailure(nowMs: number, limits: BreakerLimits): Complaint | null {
    if (this.#state !== 'closed') return null
    this.#window.addLateFailure(nowMs, limits.breakerWindowMs)
    return this.complain(nowMs, limits)
  }

  /** What speaks for opening a closed breaker now. */
  complain(nowMs: number, limits: BreakerLimits): Complaint | null {
    const window = this.#window
    window.roll(nowMs, limits.breakerWindowMs)
    if (this.#state !== 'closed' || window.calls < limits.breakerCallsMin) return null
    const bad = limits.breakerShare * window.calls
    if (window.failures >= bad) return 'failing'
    return window.failures + window.slow >= bad ? 'slow' : null
  }

  /** Whether as many calls fail or are slow as a complaint needs, however few they are. */
  isTroubled(nowMs: number, limits: BreakerLimits): boolean {
    const window = this.#window
    window.roll(nowMs, limits.breakerWindowMs)
    return window.calls > 0 && window.failures + window.slow >= limits.breakerShare * window.calls
  }

  /** Opens a closed breaker. Returns for how long, in ms. */
  trip(nowMs: number, limits: BreakerLimits): number {
    this.#forgetOpenings(nowMs)
    return this.#open('trip', nowMs, limits)
  }

  /** Forgets the calls so far: something else acts on them. */
  forget(): void {
    this.#window.clear()
  }

  /** Closed and without a past, for a new process under the old name. */
  forgive(): void {
    if (this.#state !== 'closed') this.#move('forgive')
    this.#window.clear()
    this.#trial = null
    this.#openings = 0
    this.#openMs = 0
  }

  /**
   * Another process has opened its breaker of the same for so long (ms), or closed it (0): its word holds here too.
   * No transition of this one, so it is not counted as one.
   */
  adopt(openMs: number, nowMs: number): void {
    this.#trial = null
    if (openMs <= 0) {
      if (this.#state !== 'closed') this.#closedAtMs = nowMs
      this.#state = 'closed'
      return
    }
    if (this.#state === 'closed') this.#forgetOpenings(nowMs)
    // Several processes may tell of the same trouble: while it is open that is no further opening.
    if (this.waitMs(nowMs) === 0) this.#openings = Math.min(this.#openings + 1, openTimesMax)
    this.#openMs = Math.max(this.waitMs(nowMs), openMs)
    this.#openUntilMs = nowMs + this.#openMs
    this.#state = 'open'
    this.#window.clear()
  }

  /** What was well for as long as it was out begins anew. */
  #forgetOpenings(nowMs: number): void {
    if (nowMs - this.#closedAtMs >= this.#openMs) this.#openings = 0
  }

  #open(event: 'trip' | 'fail', nowMs: number, limits: BreakerLimits): number {
    this.#move(event)
    this.#trial = null
    this.#window.clear()
    this.#openMs = limits.breakerOpenMs * Math.min(2 ** this.#openings, openTimesMax)
    this.#openings = Math.min(this.#openings + 1, openTimesMax)
    this.#openUntilMs = nowMs + this.#openMs
    return this.#openMs
  }

  #close(nowMs: number): void {
    this.#move('succeed')
    this.#trial = null
    this.#closedAtMs = nowMs
  }

  #move(event: BreakerEvent): void {
    const to = nextState(this.#state, event)
    assert(to !== null, `breaker: ${event} can't happen while ${this.#state}`)
    this.#state = to
    this.entries[to] += 1
  }
}
