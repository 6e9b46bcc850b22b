import { ApiError } from '../../core/errors.ts'
import type { Obstacle } from './cost.ts'
import type { RateView } from './rate-headers.ts'

/** Until a request ends nobody knows: a moment that is long enough not to be a hammer. */
const concurrencyRetryMs = 1_000

/** A limit is used up. Beside what the caller reads, it says how the rates stand. */
export class LimitRefusal extends ApiError {
  readonly rates: RateView | null

  constructor(obstacle: Obstacle, rates: RateView | null, share: number) {
    if (obstacle.unit === 'concurrent') {
      super('concurrency_limited', { message: sayFull(obstacle), retryAfterMs: concurrencyRetryMs })
    } else {
      super('rate_limited', { message: sayUsedUp(obstacle, share), retryAfterMs: obstacle.waitMs })
    }
    this.rates = rates
  }
}

function sayFull({ scope }: Obstacle): string {
  const { concurrentMax } = scope.settings
  return `${scope.title} has ${concurrentMax} ${concurrentMax === 1 ? 'request' : 'requests'} under way, and may have no more at once; try again when one has ended.`
}

function sayUsedUp(obstacle: Exclude<Obstacle, { unit: 'concurrent' }>, share: number): string {
  const { scope, unit } = obstacle
  const perMinute = unit === 'requests' ? scope.settings.requestsPerMinute : scope.settings.tokensPerMinute
  const name = perMinute === 1 ? unit.slice(0, -1) : unit
  const busy = share < 1 ? `, of which ${Math.round(share * 100)} % can be had while the models are busy` : ''
  return `${scope.title} has used up its limit of ${perMinute} ${name} a minute${busy}; try again in ${Math.ceil(obstacle.waitMs / 1_000)} s.`
}
