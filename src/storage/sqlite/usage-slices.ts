import { dayMs, type UsagePlace, type UsageQuery, type UsageSum } from '../usage-store.ts'

/** Some milliseconds of the storage thread, also where many keys are in use: commits go on in between. */
const sliceMs = 2 * dayMs

type UsageReads = {
  /** Of the first and the last hour that there is; null for none. */
  span: () => Promise<{ firstMs: number; lastMs: number } | null>
  sum: (query: UsageQuery) => Promise<UsageSum[]>
}

/**
 * Adds up a long time in slices, so that nobody waits behind one long look at it. Of each slice the first `limit` sums
 * are enough: what is among the first of all is among the first of every slice that it is in.
 */
export async function sumInSlices(query: UsageQuery, reads: UsageReads): Promise<UsageSum[]> {
  const span = await reads.span()
  if (span === null) return []
  const { after, limit, width } = query
  const fromMs = Math.max(query.fromMs, span.firstMs, after?.atMs ?? 0)
  const toMs = Math.min(query.toMs, span.lastMs + 1)
  let found = new Map<string, UsageSum>()
  for (let atMs = fromMs; atMs < toMs;) {
    const nextMs = Math.min(toMs, atMs - (atMs % dayMs) + sliceMs)
    for (const sum of await reads.sum({ ...query, fromMs: atMs, toMs: nextMs })) addTo(found, sum)
    atMs = nextMs
    // There can only be more of them in front: what is behind the limit now will stay there.
    if (found.size > 4 * limit) found = new Map(sortPlaces(found).slice(0, limit))
    // Hours and days are whole at the end of a slice; later ones stand behind them.
    if ((width === 'hour' || width === 'day') && found.size >= limit) break
  }
  return sortPlaces(found)
    .slice(0, limit)
    .map(([, sum]) => sum)
}

const sortPlaces = (found: ReadonlyMap<string, UsageSum>): [string, UsageSum][] =>
  [...found].sort(([, a], [, b]) => comparePlaces(a, b))

function addTo(found: Map<string, UsageSum>, sum: UsageSum): void {
  const name = JSON.stringify([sum.atMs, sum.tenant, sum.key, sum.model])
  const before = found.get(name)
  if (before === undefined) {
    found.set(name, sum)
    return
  }
  before.requests += sum.requests
  before.failedRequests += sum.failedRequests
  before.promptTokens += sum.promptTokens
  before.cachedTokens += sum.cachedTokens
  before.completionTokens += sum.completionTokens
  before.busyMs += sum.busyMs
  before.cost += sum.cost
}

function comparePlaces(a: UsagePlace, b: UsagePlace): number {
  return (
    a.atMs - b.atMs ||
    compareTexts(a.tenant, b.tenant) ||
    compareTexts(a.key, b.key) ||
    compareTexts(a.model, b.model)
  )
}

/** As SQLite does: by their bytes, which is not the order of JavaScript for all characters. */
const compareTexts = (a: string, b: string): number =>
  a === b ? 0 : Buffer.compare(Buffer.from(a), Buffer.from(b))
