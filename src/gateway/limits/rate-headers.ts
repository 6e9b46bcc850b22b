import type { Cost } from './cost.ts'
import type { Meter } from './meter.ts'
import type { Scope } from './scope.ts'

/** How a rate stands: of all that apply, the one with the least left. */
export type RateCount = { limit: number; remaining: number; resetMs: number }
export type RateView = { requests: RateCount | null; tokens: RateCount | null }

/** How the rates stand that apply to a request; null when none does. `share` is what the dynamic rates leave of them. */
export function viewRates(scopes: readonly Scope[], share: number, nowMs: number): RateView | null {
  const requests = findTightest(scopes, 'requests', share, nowMs)
  const tokens = findTightest(scopes, 'tokens', share, nowMs)
  return requests === null && tokens === null ? null : { requests, tokens }
}

function findTightest(
  scopes: readonly Scope[],
  unit: keyof Cost,
  share: number,
  nowMs: number,
): RateCount | null {
  let tightest: Meter | null = null
  let least = Infinity
  for (const scope of scopes) {
    const meter = scope[unit]
    const level = meter?.levelAt(nowMs) ?? Infinity
    if (level >= least) continue
    least = level
    tightest = meter
  }
  if (tightest === null) return null
  const { capacity, rate } = tightest.rule
  const limit = Math.floor(capacity)
  const remaining = Math.min(limit, Math.max(0, Math.floor(least * share + 1e-6)))
  return { limit, remaining, resetMs: Math.ceil(Math.max(0, capacity - least) / rate) }
}

/** Adds the headers that OpenAI's clients know to a list of names and values. */
export function appendRateHeaders(headers: string[], { requests, tokens }: RateView): void {
  if (requests !== null) {
    headers.push('x-ratelimit-limit-requests', String(requests.limit))
    headers.push('x-ratelimit-remaining-requests', String(requests.remaining))
    headers.push('x-ratelimit-reset-requests', formatReset(requests.resetMs))
  }
  if (tokens !== null) {
    headers.push('x-ratelimit-limit-tokens', String(tokens.limit))
    headers.push('x-ratelimit-remaining-tokens', String(tokens.remaining))
    headers.push('x-ratelimit-reset-tokens', formatReset(tokens.resetMs))
  }
}

/** Whole milliseconds as OpenAI writes durations, which is how Go does: `20ms`, `1s`, `8.64s`, `6m0s`, `1h0m0s`. */
export function formatReset(ms: number): string {
  if (ms < 1_000) return ms === 0 ? '0s' : `${ms}ms`
  const minutes = Math.floor(ms / 60_000)
  const seconds = `${(ms % 60_000) / 1_000}s`
  if (minutes === 0) return seconds
  return minutes < 60 ? `${minutes}m${seconds}` : `${Math.floor(minutes / 60)}h${minutes % 60}m${seconds}`
}
