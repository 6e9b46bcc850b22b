import type { Cost } from './cost.ts'
import { viewRates, type RateView } from './rate-headers.ts'
import type { Scope } from './scope.ts'

/** The right to ask a model once. Either of its ends is called exactly once; what follows does nothing. */
export interface Pass {
  /** How the rates stand that apply, for the headers of the answer; null when none does. */
  readonly rates: RateView | null
  /** It is over. `tokensUsed` takes the place of the estimate; null, where nobody counted, lets the estimate stand. */
  settle(tokensUsed: number | null): void
  /** It came to nothing before a model was asked: all that it took is given back. */
  cancel(): void
}

/** Of those whom nothing limits. */
export const freePass: Pass = Object.freeze({ rates: null, settle: () => {}, cancel: () => {} })

export class TakenPass implements Pass {
  readonly #scopes: readonly Scope[]
  readonly #cost: Cost
  readonly #taken: readonly number[]
  /** What a unit is worth in requests or tokens: what the dynamic rates left of it when it was taken. */
  readonly #share: number
  readonly #now: () => number
  #isOpen = true

  constructor(
    scopes: readonly Scope[],
    taken: { cost: Cost; tokens: readonly number[]; share: number },
    now: () => number,
  ) {
    this.#scopes = scopes
    this.#cost = taken.cost
    this.#taken = taken.tokens
    this.#share = taken.share
    this.#now = now
  }

  get rates(): RateView | null {
    return viewRates(this.#scopes, this.#share, this.#now())
  }

  settle(tokensUsed: number | null): void {
    this.#end(tokensUsed === null ? null : tokensUsed / this.#share, 0)
  }

  cancel(): void {
    this.#end(0, this.#cost.requests)
  }

  #end(tokens: number | null, requestsBack: number): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    const nowMs = this.#now()
    for (let i = 0; i < this.#scopes.length; i += 1) {
      const scope = this.#scopes[i] as Scope
      scope.slots.leave(nowMs)
      if (requestsBack > 0 && scope.requests !== null) {
        scope.requests.correct(-Math.min(requestsBack, scope.requests.rule.capacity), nowMs)
      }
      const taken = this.#taken[i] ?? 0
      if (tokens !== null && scope.tokens !== null && tokens !== taken) {
        scope.tokens.correct(tokens - taken, nowMs)
      }
    }
  }
}
