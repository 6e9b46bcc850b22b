import type { TenantSettings } from '../../config/schema.ts'
import { fail } from '../../core/errors.ts'
import { dayMs } from '../../storage/usage-store.ts'

/** Where the month (UTC) begins in which a moment lies, and the one `months` after it. */
export function monthAt(wallMs: number, months = 0): number {
  const date = new Date(wallMs)
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + months)
}

export const dayAt = (wallMs: number): number => wallMs - (wallMs % dayMs)

/** What a tenant has spent in the day and in the month that it is. */
export class Spending {
  day = 0
  month = 0
  /** When it was asked for last, in monotonic ms. */
  askedAtMs = 0
  #dayAtMs: number
  #monthAtMs: number
  #monthEndsAtMs: number

  constructor(wallMs: number) {
    this.#dayAtMs = dayAt(wallMs)
    this.#monthAtMs = monthAt(wallMs)
    this.#monthEndsAtMs = monthAt(wallMs, 1)
  }

  /** Goes over to the day that it is, if it is another one. */
  roll(wallMs: number): void {
    if (wallMs >= this.#dayAtMs && wallMs < this.#dayAtMs + dayMs) return
    this.#dayAtMs = dayAt(wallMs)
    this.day = 0
    if (this.#isInMonth(wallMs)) return
    this.#monthAtMs = monthAt(wallMs)
    this.#monthEndsAtMs = monthAt(wallMs, 1)
    this.month = 0
  }

  /** Adds what was spent at `atMs`, or in the hour or day that begins then; what lies outside is left out. */
  add(cost: number, atMs: number): void {
    if (atMs >= this.#dayAtMs && atMs < this.#dayAtMs + dayMs) this.day += cost
    if (this.#isInMonth(atMs)) this.month += cost
  }

  #isInMonth(atMs: number): boolean {
    return atMs >= this.#monthAtMs && atMs < this.#monthEndsAtMs
  }
}

/** Throws budget_exceeded when a budget is spent. `spending` stands at `wallMs`. */
export function judgeSpending(
  { day, month }: Pick<Spending, 'day' | 'month'>,
  { budgetPerDay, budgetPerMonth }: Pick<TenantSettings, 'budgetPerDay' | 'budgetPerMonth'>,
  wallMs: number,
): void {
  // The month's first: it is the one that lasts longer.
  if (budgetPerMonth > 0 && month >= budgetPerMonth) refuse('month', budgetPerMonth, monthAt(wallMs, 1), wallMs)
  if (budgetPerDay > 0 && day >= budgetPerDay) refuse('day', budgetPerDay, dayAt(wallMs) + dayMs, wallMs)
} // prettier-ignore

function refuse(period: 'day' | 'month', budget: number, nextAtMs: number, wallMs: number): never {
  const next = `${new Date(nextAtMs).toISOString().slice(0, 16)}Z`
  throw fail('budget_exceeded', {
    message: `This tenant has spent its budget of ${budget} a ${period}; the next ${period} begins at ${next}. GET /v1/usage shows what it went for.`,
    retryAfterMs: nextAtMs - wallMs,
  })
}
