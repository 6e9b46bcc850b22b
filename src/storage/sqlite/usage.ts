import type { Context } from './context.ts'
import {
  dayMs,
  usageKeptMs,
  usageWritersKeptMs,
  type DayCost,
  type UsageBatch,
  type UsageQuery,
  type UsageSum,
  type UsageWidth,
} from '../usage-store.ts'

/** What was used: hours by tenant, key and model, and days by tenant for the budgets. */

const sums = ['requests', 'failed_requests', 'prompt_tokens', 'cached_tokens', 'completion_tokens', 'busy_ms', 'cost'] // prettier-ignore

const takeNumber = `INSERT INTO usage_writers (writer, sequence, seen_at) VALUES (?1, ?2, ?3)
  ON CONFLICT (writer) DO UPDATE SET sequence = ?2, seen_at = ?3 WHERE sequence < ?2`
const addHour = `INSERT INTO usage_hours (tenant, hour_at, key, model, ${sums.join(', ')})
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, hour_at, key, model) DO UPDATE
  SET ${sums.map((name) => `${name} = ${name} + excluded.${name}`).join(', ')}`
const addDay = `INSERT INTO usage_days (tenant, day_at, cost) VALUES (?, ?, ?)
  ON CONFLICT (tenant, day_at) DO UPDATE SET cost = cost + excluded.cost`

export function addUsage(context: Context, { writer, sequence, nowMs, rows }: UsageBatch): void {
  if (Number(context.sql(takeNumber).run(writer, sequence, nowMs).changes) === 0) return
  for (const row of rows) {
    const { hourAtMs, tenant, key, model, promptTokens, cachedTokens, completionTokens, cost } = row
    const counts = [row.requests, row.failedRequests, promptTokens, cachedTokens, completionTokens]
    context.sql(addHour).run(tenant, hourAtMs, key, model, ...counts, row.busyMs, cost)
    if (cost > 0) context.sql(addDay).run(tenant, hourAtMs - (hourAtMs % dayMs), cost)
  }
}

/** When the first and the last hour begin; null when there is none. */
export function usageSpan(context: Context): { firstMs: number; lastMs: number } | null {
  const first = context.sql('SELECT min(hour_at) AS atMs FROM usage_hours').get() as { atMs: number | null }
  const last = context.sql('SELECT max(hour_at) AS atMs FROM usage_hours').get() as { atMs: number | null }
  return first.atMs === null || last.atMs === null ? null : { firstMs: first.atMs, lastMs: last.atMs }
}

const beginnings: Readonly<Record<UsageWidth, string>> = {
  hour: 'hour_at',
  day: `hour_at - hour_at % ${dayMs}`,
  month: `unixepoch(date(hour_at / 1000, 'unixepoch', 'start of month')) * 1000`,
  all: '0',
}

export function sumUsage(context: Context, query: UsageQuery): UsageSum[] {
  const { fromMs, toMs, width, groups, after, limit } = query
  const filters = (['tenant', 'key', 'model'] as const).filter((name) => query[name] !== undefined)
  const name = (group: (typeof groups)[number]) => (groups.includes(group) ? group : `''`)
  const places = [beginnings[width], name('tenant'), name('key'), name('model')]
  const text = `
    SELECT ${places[0]} AS atMs, ${places[1]} AS tenantName, ${places[2]} AS keyName, ${places[3]} AS modelName,
      ${sums.map((name) => `sum(${name}) AS ${name}`).join(', ')}
    FROM usage_hours WHERE hour_at >= ? AND hour_at < ? ${filters.map((name) => `AND ${name} = ?`).join(' ')}
      ${after ? `AND (${places.join(', ')}) > (?, ?, ?, ?)` : ''}
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4 LIMIT ?`
  // What lies before the place that was reached need not be read again.
  const values = [
    Math.max(fromMs, after?.atMs ?? 0),
    toMs,
    ...filters.map((name) => query[name] as string),
    ...(after ? [after.atMs, after.tenant, after.key, after.model] : []),
    limit,
  ]
  return context.sql(text).all(...values).map((row) => toSum(row as StoredSum))
} // prettier-ignore

type StoredSum = {
  atMs: number
  tenantName: string
  keyName: string
  modelName: string
  requests: number
  failed_requests: number
  prompt_tokens: number
  cached_tokens: number
  completion_tokens: number
  busy_ms: number
  cost: number
}

const toSum = (row: StoredSum): UsageSum => ({
  atMs: row.atMs,
  tenant: row.tenantName,
  key: row.keyName,
  model: row.modelName,
  requests: row.requests,
  failedRequests: row.failed_requests,
  promptTokens: row.prompt_tokens,
  cachedTokens: row.cached_tokens,
  completionTokens: row.completion_tokens,
  busyMs: row.busy_ms,
  cost: row.cost,
})

export function usageCosts(context: Context, tenants: readonly string[], fromMs: number): DayCost[] {
  const read = context.sql(
    'SELECT tenant, day_at AS dayAtMs, cost FROM usage_days WHERE tenant = ? AND day_at >= ? ORDER BY day_at',
  )
  return tenants.flatMap((tenant) => read.all(tenant, fromMs).map((row) => ({ ...row }) as DayCost))
}

/** One small step; returns how many rows are gone. */
export function pruneUsage(context: Context, nowMs: number, limit: number): number {
  const { changes } = context
    .sql(
      `DELETE FROM usage_hours WHERE (tenant, hour_at, key, model) IN (
         SELECT tenant, hour_at, key, model FROM usage_hours WHERE hour_at < ? ORDER BY hour_at LIMIT ?)`,
    )
    .run(nowMs - usageKeptMs, limit)
  context
    .sql(
      `DELETE FROM usage_days WHERE (tenant, day_at) IN (
         SELECT tenant, day_at FROM usage_days WHERE day_at < ? LIMIT ?)`,
    )
    .run(nowMs - usageKeptMs, limit)
  context
    .sql(
      'DELETE FROM usage_writers WHERE writer IN (SELECT writer FROM usage_writers WHERE seen_at < ? LIMIT ?)',
    )
    .run(nowMs - usageWritersKeptMs, limit)
  return Number(changes)
}
