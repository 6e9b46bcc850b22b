import { hourMs, type UsageRow } from '../../storage/usage-store.ts'

type Page = { hourAtMs: number; tenants: Map<string, Map<string, Map<string, UsageRow>>> }

/** Beyond as many rows, those of new keys are added up without the name of the key; beyond twice as many, none is made. */
export const rowsMax = 20_000

/** Sums by hour, tenant, key and model, in memory. Finding the row of a request builds no string. */
export class UsagePages {
  readonly #pages = new Map<number, Page>()
  #open: Page | null = null
  #rows = 0

  get rows(): number {
    return this.#rows
  }

  /** The row of the hour that it is at `wallMs`; null when there are too many. */
  row(tenant: string, key: string, model: string, wallMs: number): UsageRow | null {
    let page = this.#open
    if (page === null || wallMs < page.hourAtMs || wallMs >= page.hourAtMs + hourMs) page = this.#turn(wallMs)
    return page.tenants.get(tenant)?.get(key)?.get(model) ?? this.#make(page, tenant, key, model)
  }

  /** Every row that there is. */
  *[Symbol.iterator](): Generator<UsageRow, void, undefined> {
    for (const { tenants } of this.#pages.values()) {
      for (const keys of tenants.values()) for (const models of keys.values()) yield* models.values()
    }
  }

  /** Takes all rows out. */
  take(): UsageRow[] {
    const rows = [...this]
    this.#pages.clear()
    this.#open = null
    this.#rows = 0
    return rows
  }

  /** A wall clock that was set back may return to an earlier hour. */
  #turn(wallMs: number): Page {
    const hourAtMs = wallMs - (wallMs % hourMs)
    const page = this.#pages.get(hourAtMs) ?? { hourAtMs, tenants: new Map() }
    this.#pages.set(hourAtMs, page)
    this.#open = page
    return page
  }

  #make(page: Page, tenant: string, key: string, model: string): UsageRow | null {
    if (this.#rows >= rowsMax && key !== '') {
      return page.tenants.get(tenant)?.get('')?.get(model) ?? this.#make(page, tenant, '', model)
    }
    if (this.#rows >= 2 * rowsMax) return null
    const row: UsageRow = {
      ...{ hourAtMs: page.hourAtMs, tenant, key, model },
      ...{ requests: 0, failedRequests: 0, promptTokens: 0, cachedTokens: 0, completionTokens: 0 },
      ...{ busyMs: 0, cost: 0 },
    }
    const keys = keep(page.tenants, tenant, () => new Map<string, Map<string, UsageRow>>())
    keep(keys, key, () => new Map<string, UsageRow>()).set(model, row)
    this.#rows += 1
    return row
  }
}

function keep<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key)
  if (value === undefined) map.set(key, (value = make()))
  return value
}
