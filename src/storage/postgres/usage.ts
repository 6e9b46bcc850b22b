import {
  dayMs,
  usageGroups,
  usageKeptMs,
  usageWritersKeptMs,
  type DayCost,
  type UsageBatch,
  type UsageQuery,
  type UsageStore,
  type UsageSum,
  type UsageWidth,
} from '../usage-store.ts'
import type { Database, Statement } from './database.ts'
import { toRows } from './values.ts'

/** What was used: hours by tenant, key and model, and days by tenant for the budgets. */

const sums = {
  requests: 'bigint',
  failedRequests: 'bigint',
  promptTokens: 'bigint',
  cachedTokens: 'bigint',
  completionTokens: 'bigint',
  busyMs: 'double precision',
  cost: 'double precision',
} as const
const sumNames = Object.keys(sums) as (keyof typeof sums)[]
const toColumn = (name: string) => name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
const columns = sumNames.map(toColumn)

/**
 * The number of the batch is taken in the statement that adds it, so that it is safe to run twice. Rows in one order
 * for all writers: two that add to the same rows wait for each other, and never both.
 */
const addBatch: Statement = {
  name: 'add_usage',
  text: `
    WITH taken AS (
      INSERT INTO usage_writers AS w (writer, sequence, seen_at) VALUES ($1, $2, $3)
      ON CONFLICT (writer) DO UPDATE SET sequence = excluded.sequence, seen_at = excluded.seen_at
      WHERE w.sequence < excluded.sequence RETURNING writer
    ), given AS MATERIALIZED (
      SELECT r.* FROM json_to_recordset($4::json) AS r ("hourAtMs" bigint, tenant text, key text, model text,
        ${sumNames.map((name) => `"${name}" ${sums[name]}`).join(', ')})
      WHERE EXISTS (SELECT 1 FROM taken)
    ), hours AS (
      INSERT INTO usage_hours AS h (tenant, hour_at, key, model, ${columns.join(', ')})
      SELECT tenant, "hourAtMs", key, model, ${sumNames.map((name) => `sum("${name}")`).join(', ')}
      FROM given GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
      ON CONFLICT (tenant, hour_at, key, model) DO UPDATE
      SET ${columns.map((name) => `${name} = h.${name} + excluded.${name}`).join(', ')}
    ), days AS (
      INSERT INTO usage_days AS d (tenant, day_at, cost)
      SELECT tenant, "hourAtMs" - "hourAtMs" % ${dayMs}, sum(cost)
      FROM given WHERE cost > 0 GROUP BY 1, 2 ORDER BY 1, 2
      ON CONFLICT (tenant, day_at) DO UPDATE SET cost = d.cost + excluded.cost
    )
    SELECT writer FROM taken`,
}

const beginnings: Readonly<Record<UsageWidth, string>> = {
  hour: 'hour_at',
  day: `hour_at - hour_at % ${dayMs}`,
  month: `(extract(epoch FROM date_trunc('month', to_timestamp(hour_at / 1000) AT TIME ZONE 'UTC')) * 1000)::bigint`,
  all: '0::bigint',
}

/** One of the few forms of the question, each a statement of its own. */
function makeSum(query: UsageQuery): { statement: Statement; values: unknown[] } {
  const { fromMs, toMs, width, groups, after, limit } = query
  const values: unknown[] = [Math.max(fromMs, after?.atMs ?? 0), toMs, limit]
  const give = (value: unknown) => `$${values.push(value)}`
  const filters = (['tenant', 'key', 'model'] as const).filter((name) => query[name] !== undefined)
  const conditions = filters.map((name) => `AND ${name} = ${give(query[name])}`)
  const name = (group: (typeof groups)[number]) => (groups.includes(group) ? group : `''::text COLLATE "C"`)
  const places = [beginnings[width], name('tenant'), name('key'), name('model')]
  const reached = after && [after.atMs, after.tenant, after.key, after.model].map(give)
  const text = `
    SELECT ${places[0]} AS "atMs", ${places[1]} AS tenant_name, ${places[2]} AS key_name, ${places[3]} AS model_name,
      ${sumNames.map((name) => `sum(${toColumn(name)})::${sums[name]} AS "${name}"`).join(', ')}
    FROM usage_hours WHERE hour_at >= $1 AND hour_at < $2 ${conditions.join(' ')}
      ${reached ? `AND (${places.join(', ')}) > (${reached.join(', ')})` : ''}
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4 LIMIT $3`
  const form = [
    width,
    usageGroups.filter((group) => groups.includes(group)).join('_'),
    filters.join('_'),
    after ? 'after' : '',
  ].join('-')
  return { statement: { name: `usage-${form}`, text }, values }
}

type StoredSum = Omit<UsageSum, 'tenant' | 'key' | 'model'> & {
  tenant_name: string
  key_name: string
  model_name: string
}

const readCosts: Statement = {
  name: 'usage_costs',
  text: `
    SELECT d.tenant, d.day_at AS "dayAtMs", d.cost FROM unnest($1::text[]) AS asked (tenant)
    JOIN LATERAL (SELECT * FROM usage_days u WHERE u.tenant = asked.tenant AND u.day_at >= $2) AS d ON true
    ORDER BY d.tenant, d.day_at`,
}

const pruneHours: Statement = {
  name: 'prune_usage_hours',
  text: `
    DELETE FROM usage_hours WHERE (tenant, hour_at, key, model) IN (
      SELECT tenant, hour_at, key, model FROM usage_hours WHERE hour_at < $1 ORDER BY hour_at LIMIT $2
      FOR UPDATE SKIP LOCKED)
    RETURNING hour_at`,
}
const pruneDays: Statement = {
  name: 'prune_usage_days',
  text: `
    DELETE FROM usage_days WHERE (tenant, day_at) IN (
      SELECT tenant, day_at FROM usage_days WHERE day_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)`,
}
const pruneWriters: Statement = {
  name: 'prune_usage_writers',
  text: `
    DELETE FROM usage_writers WHERE writer IN (
      SELECT writer FROM usage_writers WHERE seen_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)`,
}

export class PostgresUsage implements UsageStore {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  async add({ writer, sequence, nowMs, rows }: UsageBatch): Promise<void> {
    await this.#database.query(addBatch, [writer, sequence, nowMs, toRows(rows)])
  }

  async sum(query: UsageQuery): Promise<UsageSum[]> {
    const { statement, values } = makeSum(query)
    const rows = await this.#database.query<StoredSum>(statement, values)
    return rows.map(({ tenant_name, key_name, model_name, ...sums }) => ({
      ...sums,
      tenant: tenant_name,
      key: key_name,
      model: model_name,
    }))
  }

  costs(tenants: readonly string[], fromMs: number): Promise<DayCost[]> {
    return this.#database.query(readCosts, [tenants, fromMs])
  }
}

/** One small step; returns how many hours are gone. */
export async function pruneUsage(database: Database, nowMs: number, limit: number): Promise<number> {
  const rows = await database.query(pruneHours, [nowMs - usageKeptMs, limit])
  await database.query(pruneDays, [nowMs - usageKeptMs, limit])
  await database.query(pruneWriters, [nowMs - usageWritersKeptMs, limit])
  return rows.length
}
