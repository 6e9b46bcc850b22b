import type { ClientBase } from 'pg'
import type { Clock } from '../../core/clock.ts'
import { taskStatuses, type TaskStatus } from '../task-states.ts'
import { execute, type Database, type Statement } from './database.ts'

/** Tasks that came to a state, or left it. */
export type Change = {
  tenant: string
  model: string
  parent: string | null
  status: TaskStatus
  tasks: number
  bytes: number
}

export type Tally = { tasks: number; bytes: number }

/**
 * The end of a statement that writes changes: `from` gives rows of tenant, model, parent, status, tasks, bytes. One row
 * a batch, and none at all when nothing has changed.
 */
export const insertChanges = (from: string) => `
  INSERT INTO deltas (tenants, models, parents, statuses, tasks, bytes)
  SELECT array_agg(c.tenant), array_agg(c.model), array_agg(c.parent), array_agg(c.status), array_agg(c.tasks),
    array_agg(c.bytes)
  FROM (${from}) AS c (tenant, model, parent, status, tasks, bytes) HAVING count(*) > 0`

/** For a statement that is given its changes as JSON. */
export const changesFrom = (parameter: string) => `
  SELECT * FROM json_to_recordset(${parameter}::json)
    AS j (tenant text, model text, parent text, status status, tasks bigint, bytes bigint)`

const lockKey = 4_718_202_604
const foldMax = 500
/** Changes are added up by every reader until they are folded: a few are cheap. */
const foldAfterBatches = 32
const foldEveryMs = 1_000

const fold: Statement = {
  name: 'fold',
  text: `
    WITH held AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(${lockKey}) AS mine),
    gone AS (
      DELETE FROM deltas WHERE (SELECT mine FROM held)
        AND ctid = ANY (ARRAY(SELECT ctid FROM deltas LIMIT ${foldMax})) RETURNING *
    ), flat AS MATERIALIZED (
      SELECT u.* FROM gone g, unnest(g.tenants, g.models, g.parents, g.statuses, g.tasks, g.bytes)
        AS u (tenant, model, parent, status, tasks, bytes)
    ), folded AS (
      INSERT INTO tallies AS t (kind, name, tenant, status, tasks, bytes)
      SELECT kind, name, tenant, status, sum(tasks), sum(bytes) FROM (
        SELECT 'all' AS kind, '' AS name, '' AS tenant, status, tasks, bytes FROM flat
        UNION ALL SELECT 'tenant', '', tenant, status, tasks, bytes FROM flat
        UNION ALL SELECT 'model', model, '', status, tasks, bytes FROM flat
        UNION ALL SELECT 'parent', parent, tenant, status, tasks, bytes FROM flat WHERE parent IS NOT NULL
      ) AS f GROUP BY kind, name, tenant, status HAVING sum(tasks) <> 0 OR sum(bytes) <> 0
      ORDER BY kind, name, tenant, status
      ON CONFLICT (kind, name, tenant, status)
        DO UPDATE SET tasks = t.tasks + excluded.tasks, bytes = t.bytes + excluded.bytes
    )
    SELECT count(*) AS folded FROM gone`,
}

const countTenant: Statement = {
  name: 'count_tenant',
  text: `
    SELECT status, sum(tasks)::bigint AS tasks FROM (
      SELECT status, tasks FROM tallies WHERE kind = 'tenant' AND name = '' AND tenant = $1
      UNION ALL SELECT status, tasks FROM changes WHERE tenant = $1) AS c GROUP BY status`,
}

const countParent: Statement = {
  name: 'count_parent',
  text: `
    SELECT status, sum(tasks)::bigint AS tasks FROM (
      SELECT status, tasks FROM tallies WHERE kind = 'parent' AND name = $2 AND tenant = $1
      UNION ALL SELECT status, tasks FROM changes WHERE tenant = $1 AND parent = $2) AS c GROUP BY status`,
}

const depths: Statement = {
  name: 'depths',
  text: `
    SELECT model, status, sum(tasks)::bigint AS tasks FROM (
      SELECT name AS model, status, tasks FROM tallies WHERE kind = 'model'
      UNION ALL SELECT model, status, tasks FROM changes) AS c
    GROUP BY model, status HAVING sum(tasks) <> 0 ORDER BY model, status`,
}

const live: Statement = {
  name: 'live',
  text: `
    SELECT kind, tenant, sum(tasks)::bigint AS tasks, sum(bytes)::bigint AS bytes FROM (
      SELECT 'tenant' AS kind, tenant, status, tasks, bytes FROM tallies
        WHERE kind = 'tenant' AND name = '' AND tenant = ANY ($1)
      UNION ALL SELECT 'all', '', status, tasks, bytes FROM tallies WHERE kind = 'all' AND name = '' AND tenant = ''
      UNION ALL SELECT 'tenant', tenant, status, tasks, bytes FROM changes WHERE tenant = ANY ($1)
      UNION ALL SELECT 'all', '', status, tasks, bytes FROM changes) AS c
    WHERE status <= 'running' GROUP BY kind, tenant`,
}

const ended: Statement = {
  name: 'ended',
  text: `
    SELECT coalesce(sum(tasks), 0)::bigint AS tasks FROM (
      SELECT status, tasks FROM tallies WHERE kind = 'all' AND name = '' AND tenant = ''
      UNION ALL SELECT status, tasks FROM changes) AS c WHERE status >= 'succeeded'`,
}

/** What waits and runs, of some tenants and of all. */
export async function readLive(
  client: ClientBase,
  tenants: readonly string[],
): Promise<{ all: Tally; of: Map<string, Tally> }> {
  const rows = await execute<Tally & { kind: string; tenant: string }>(client, live, [tenants])
  const all: Tally = { tasks: 0, bytes: 0 }
  const of = new Map(tenants.map((tenant) => [tenant, { tasks: 0, bytes: 0 }]))
  for (const { kind, tenant, tasks, bytes } of rows)
    Object.assign(kind === 'all' ? all : of.get(tenant)!, { tasks, bytes })
  return { all, of }
}

/** How many tasks there are in each state: a count would walk over all of them. */
export class Tallies {
  readonly #database: Database
  readonly #clock: Clock
  #stopTimer = () => {}
  #batches = 0
  #folding: Promise<void> | null = null

  constructor(database: Database, clock: Clock) {
    this.#database = database
    this.#clock = clock
  }

  start(): void {
    this.#stopTimer()
    this.#stopTimer = this.#clock.every(foldEveryMs, () => {
      if (this.#batches > 0) void this.fold()
    })
  }

  async stop(): Promise<void> {
    this.#stopTimer()
    if (this.#batches > 0) await this.fold()
    await this.#folding
  }

  /** A batch was committed that has changes with it. */
  note(): void {
    this.#batches += 1
    if (this.#batches >= foldAfterBatches) void this.fold()
  }

  fold(): Promise<void> {
    this.#folding ??= this.#fold().finally(() => (this.#folding = null))
    return this.#folding
  }

  async count(tenant: string, parent?: string): Promise<Record<TaskStatus, number>> {
    const [statement, values] =
      parent === undefined ? [countTenant, [tenant]] : [countParent, [tenant, parent]]
    const rows = await this.#database.query<{ status: TaskStatus; tasks: number }>(statement, values)
    const counts = Object.fromEntries(taskStatuses.map((status) => [status, 0])) as Record<TaskStatus, number>
    for (const { status, tasks } of rows) counts[status] = tasks
    return counts
  }

  depths(): Promise<{ model: string; status: TaskStatus; tasks: number }[]> {
    return this.#database.query(depths)
  }

  async countEnded(): Promise<number> {
    const [row] = await this.#database.query<{ tasks: number }>(ended)
    return row?.tasks ?? 0
  }

  async #fold(): Promise<void> {
    this.#batches = 0
    try {
      for (;;) {
        const [row] = await this.#database.queryOnce<{ folded: number }>(fold)
        if ((row?.folded ?? 0) < foldMax) return
      }
    } catch {
      // Nothing is lost: what is not folded is added up by its readers, and folded the next time.
      this.#batches += 1
    }
  }
}
