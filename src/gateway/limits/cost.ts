import { fits, needOf, waitMs } from './bucket.ts'
import type { Meter } from './meter.ts'
import type { Scope } from './scope.ts'

/**
 * What a request takes of every bucket that applies to it, in units. Where the fleet is busy a request costs more units
 * than one, and every limit lets fewer through: that is how rates follow the fleet without a bucket changing its own.
 */
export type Cost = { readonly requests: number; readonly tokens: number }

/** What is in the way of a request: the limit with the longest wait, or one that says nothing of time. */
export type Obstacle =
  { scope: Scope; unit: 'requests' | 'tokens'; waitMs: number } | { scope: Scope; unit: 'concurrent' }

/** Whether everything that is needed is there. */
export function isThere(scopes: readonly Scope[], cost: Cost, nowMs: number): boolean {
  for (const { slots, requests, tokens } of scopes) {
    if (!slots.isFree(nowMs)) return false
    if (requests !== null && !hasLeft(requests, cost.requests, nowMs)) return false
    if (tokens !== null && !hasLeft(tokens, cost.tokens, nowMs)) return false
  }
  return true
}

const hasLeft = (meter: Meter, units: number, nowMs: number): boolean =>
  fits(meter.left(nowMs), needOf(meter.rule, units))

/** Takes from all. What was taken of the tokens of each scope, for it may be less than asked. */
export function takeAll(scopes: readonly Scope[], cost: Cost, nowMs: number): number[] {
  const taken: number[] = []
  for (const { slots, requests, tokens } of scopes) {
    slots.take(nowMs)
    requests?.take(needOf(requests.rule, cost.requests), nowMs)
    const units = tokens === null ? 0 : needOf(tokens.rule, cost.tokens)
    if (units > 0) tokens?.take(units, nowMs)
    taken.push(units)
  }
  return taken
}

/**
 * Asked when not everything is there. A rate that is known to be used up goes first, for it says how long to wait; slots
 * go before a rate that seemed to have enough. Where limits are shared, both may be missing for not being leased.
 */
export function findObstacle(scopes: readonly Scope[], cost: Cost, nowMs: number): Obstacle {
  let longest: Obstacle | null = null
  let longestMs = -1
  for (const scope of scopes) {
    for (const unit of ['requests', 'tokens'] as const) {
      const meter = scope[unit]
      if (meter === null || hasLeft(meter, cost[unit], nowMs)) continue
      const ms = waitMs(meter.levelAt(nowMs), needOf(meter.rule, cost[unit]), meter.rule.rate)
      if (ms <= longestMs) continue
      longestMs = ms
      // A lease that did not come although there seemed to be enough: somebody else was faster.
      longest = { scope, unit, waitMs: Math.max(1, ms) }
    }
  }
  if (longest !== null && longestMs > 0) return longest
  const full = scopes.find(({ slots }) => !slots.isFree(nowMs))
  if (full) return { scope: full, unit: 'concurrent' }
  if (longest === null) throw new Error('nothing is in the way')
  return longest
}
