import type { TenantSettings } from '../../config/schema.ts'
import type { Clock } from '../../core/clock.ts'
import type { Service } from '../../core/service.ts'
import { StoreUnavailable } from '../../storage/store.ts'
import type { UsageStore } from '../../storage/usage-store.ts'
import type { Logger } from '../../telemetry/log.ts'
import { judgeSpending, monthAt, Spending } from './spending.ts'
import type { UsageBook } from './usage-book.ts'

/** How soon it is seen here what other servers have counted. */
const readEveryMs = 2_000
/** How long the first request of a tenant waits to know what was spent before. */
const firstWaitMs = 1_000
/** Asked for in one go. */
const readTenantsMax = 500
/** Tenants that did not ask for so long are not followed any more; nor are more than so many. */
const followed = { idleMs: 600_000, tenantsMax: 10_000 } as const

export type BudgetParts = {
  store: Pick<UsageStore, 'costs'>
  book: Pick<UsageBook, 'inTurn' | 'unsaved' | 'onCost'>
  clock: Clock
  log: Logger
}

/**
 * Turns away who has spent its budget. What was spent is what the storage knows, read again every two seconds, and
 * what this process has not stored yet. While the storage is away, what is known goes on to count.
 *
 * A request that is under way when the budget is spent goes on to its end, so a budget is passed by as much as the
 * requests under way cost.
 */
export class Budgets implements Service {
  readonly name = 'budgets'
  readonly #parts: BudgetParts
  readonly #spendings = new Map<string, Spending>()
  /** Tenants that are to be read for the first time. */
  #wanted = new Set<string>()
  #firstRead: Promise<void> | null = null
  #isReading = false
  #stopTimer: (() => void) | null = null

  constructor(parts: BudgetParts) {
    this.#parts = parts
    parts.book.onCost((tenant, cost, wallMs) => {
      const spending = this.#spendings.get(tenant)
      if (spending === undefined) return
      spending.roll(wallMs)
      spending.add(cost, wallMs)
    })
  }

  start(): Promise<void> {
    this.#stopTimer ??= this.#parts.clock.every(readEveryMs, () => void this.#readAgain())
    return Promise.resolve()
  }

  stop(): Promise<void> {
    this.#stopTimer?.()
    this.#stopTimer = null
    return Promise.resolve()
  }

  /** Throws budget_exceeded. A promise for the first request of a tenant with a budget: what it spent is read. */
  check(tenant: string, settings: TenantSettings): void | Promise<void> {
    if (settings.budgetPerDay === 0 && settings.budgetPerMonth === 0) return
    const spending = this.#spendings.get(tenant)
    if (spending !== undefined) return this.#judge(spending, settings)
    return this.#readFirst(tenant).then(() => this.#judge(this.#follow(tenant), settings))
  }

  #judge(spending: Spending, settings: TenantSettings): void {
    const { clock } = this.#parts
    const wallMs = clock.wallMs()
    spending.askedAtMs = clock.now()
    spending.roll(wallMs)
    judgeSpending(spending, settings, wallMs)
  }

  /** The spending of a tenant; where nothing could be read, it begins with what is known here. */
  #follow(tenant: string): Spending {
    const known = this.#spendings.get(tenant)
    if (known) return known
    this.#take([tenant], [])
    return this.#spendings.get(tenant) as Spending
  }

  /** Resolves when it is read, could not be, or takes too long. */
  async #readFirst(tenant: string): Promise<void> {
    this.#wanted.add(tenant)
    this.#firstRead ??= this.#parts.book.inTurn(() => {
      const tenants = [...this.#wanted]
      this.#wanted = new Set()
      // Who comes from now on is not among them.
      this.#firstRead = null
      return this.#read(tenants)
    })
    const waited = Promise.withResolvers<void>()
    const cancel = this.#parts.clock.after(firstWaitMs, waited.resolve)
    await Promise.race([this.#firstRead, waited.promise])
    cancel()
  }

  async #readAgain(): Promise<void> {
    if (this.#isReading) return
    this.#forgetIdle()
    if (this.#spendings.size === 0) return
    this.#isReading = true
    try {
      await this.#parts.book.inTurn(() => this.#read([...this.#spendings.keys()]))
    } finally {
      this.#isReading = false
    }
  }

  /** Never throws. */
  async #read(tenants: readonly string[]): Promise<void> {
    const { store, clock, log } = this.#parts
    try {
      for (let at = 0; at < tenants.length; at += readTenantsMax) {
        const some = tenants.slice(at, at + readTenantsMax)
        this.#take(some, await store.costs(some, monthAt(clock.wallMs())))
      }
    } catch (thrown) {
      // That the storage is away is told by the book.
      if (!(thrown instanceof StoreUnavailable)) log.error({ err: thrown }, 'reading what was spent failed')
    }
  }

  /** What is stored, and what is not: nothing is written between the reading and here. */
  #take(
    tenants: readonly string[],
    stored: readonly { tenant: string; dayAtMs: number; cost: number }[],
  ): void {
    const { clock, book } = this.#parts
    const wallMs = clock.wallMs()
    const found = new Map(tenants.map((tenant) => [tenant, new Spending(wallMs)]))
    for (const { tenant, dayAtMs, cost } of stored) found.get(tenant)?.add(cost, dayAtMs)
    for (const { tenant, hourAtMs, cost } of book.unsaved()) found.get(tenant)?.add(cost, hourAtMs)
    for (const [tenant, spending] of found) {
      spending.askedAtMs = this.#spendings.get(tenant)?.askedAtMs ?? clock.now()
      this.#spendings.set(tenant, spending)
    }
    for (const tenant of this.#spendings.keys()) {
      if (this.#spendings.size <= followed.tenantsMax) break
      this.#spendings.delete(tenant)
    }
  }

  #forgetIdle(): void {
    const nowMs = this.#parts.clock.now()
    for (const [tenant, { askedAtMs }] of this.#spendings) {
      if (nowMs - askedAtMs > followed.idleMs) this.#spendings.delete(tenant)
    }
  }
}
