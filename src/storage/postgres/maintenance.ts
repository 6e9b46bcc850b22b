import type { Maintenance, Retention, TenantPrune, TenantPruned } from '../store.ts'
import { execute, type Database, type Statement } from './database.ts'
import { removeTasks, type Removable } from './hand.ts'
import { pruneTenants } from './prune-tenants.ts'
import { migrations } from './schema.ts'
import type { Tallies } from './tallies.ts'
import { pruneUsage } from './usage.ts'

/** Lines of a batch that is not done stay: its results are still to be written. */
const pickEnded: Statement = {
  name: 'pick_ended',
  text: `
    SELECT t.id, t.tenant, t.model, t.parent, t.status, t.bytes FROM tasks t
    WHERE t.status >= 'succeeded' AND t.finished_at < $1
      AND (t.parent IS NULL OR NOT EXISTS (SELECT 1 FROM documents d WHERE d.open AND d.id = t.parent))
    ORDER BY t.finished_at, t.id LIMIT $2 FOR UPDATE OF t SKIP LOCKED`,
}

const removeExpired: Statement = {
  name: 'remove_expired_documents',
  text: `
    WITH due AS MATERIALIZED (
      SELECT kind, id FROM documents WHERE expires_at IS NOT NULL AND expires_at <= $1
      ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
    ), gone AS (
      DELETE FROM documents d USING due WHERE d.kind = due.kind AND d.id = due.id RETURNING d.id
    ), blobs_out AS (DELETE FROM blobs WHERE id IN (SELECT id FROM due)
    )
    SELECT id FROM gone`,
}

/** Finish tags behind the place where a line stands say nothing any more; the largest one stays. */
const removeLanes: Statement = {
  name: 'remove_lanes',
  text: `
    WITH lines AS MATERIALIZED (
      SELECT model, band, max(finish) AS finish_max FROM lanes GROUP BY model, band
    ), places AS MATERIALIZED (
      SELECT model, band, finish_max, coalesce((SELECT t.tag FROM tasks t WHERE t.status = 'queued'
        AND t.model = l.model AND t.band = l.band ORDER BY t.tag LIMIT 1), finish_max) AS place
      FROM lines l
    ), old AS MATERIALIZED (
      SELECT l.model, l.band, l.tenant FROM lanes l JOIN places p ON p.model = l.model AND p.band = l.band
      WHERE l.finish <= p.place AND l.finish < p.finish_max LIMIT $1 FOR UPDATE OF l SKIP LOCKED
    )
    DELETE FROM lanes l USING old o WHERE l.model = o.model AND l.band = o.band AND l.tenant = o.tenant`,
}

const removeZeros: Statement = {
  name: 'remove_zeros',
  text: 'DELETE FROM tallies WHERE tasks = 0 AND bytes = 0',
}

const size: Statement = {
  name: 'size',
  text: `
    SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint AS bytes,
      (SELECT max(version) FROM schema_version) AS version
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'autoglm' AND c.relkind = 'r'`,
}

/** Each finds what must not be; the text says it of one row. */
const checks: readonly { name: string; text: string }[] = [
  {
    name: 'check_payloads',
    text: `SELECT 'task ' || t.id || ' has no payload' AS finding FROM tasks t
      WHERE NOT EXISTS (SELECT 1 FROM payloads p WHERE p.id = t.id) LIMIT 10`,
  },
  {
    name: 'check_results',
    text: `SELECT 'task ' || t.id || ' has lost its result' AS finding FROM tasks t
      WHERE t.result_bytes > 0 AND NOT EXISTS (
        SELECT 1 FROM results r WHERE r.id = t.id AND octet_length(r.result) = t.result_bytes) LIMIT 10`,
  },
  {
    name: 'check_states',
    text: `SELECT 'task ' || id || ' is ' || status || ' without what belongs to that state' AS finding FROM tasks
      WHERE CASE
        WHEN status = 'queued' THEN tag IS NULL OR ready_at IS NULL OR finished_at IS NOT NULL
        WHEN status = 'delayed' THEN run_at IS NULL OR finished_at IS NOT NULL
        WHEN status = 'running' THEN lease_until IS NULL OR owner IS NULL OR started_at IS NULL OR attempt < 1
        WHEN status = 'succeeded' THEN finished_at IS NULL OR result_bytes IS NULL
        ELSE finished_at IS NULL END LIMIT 10`,
  },
  {
    name: 'check_histories',
    text: `SELECT 'task ' || t.id || ' has gaps in its history' AS finding FROM tasks t
      WHERE t.stored_seq > 1 AND t.stored_seq - 1 <> (SELECT count(*) FROM events e WHERE e.id = t.id)
        OR t.seq - t.stored_seq <> CASE t.status WHEN 'running' THEN 1 WHEN 'succeeded' THEN 2 ELSE 0 END LIMIT 10`,
  },
  {
    name: 'check_keys',
    text: `SELECT 'an idempotency key points to ' || i.id || ', which is not there' AS finding FROM idempotency i
      WHERE NOT EXISTS (SELECT 1 FROM tasks t WHERE t.id = i.id AND t.tenant = i.tenant) LIMIT 10`,
  },
  {
    name: 'check_tallies',
    text: `
      SELECT 'tenant ' || coalesce(a.tenant, b.tenant) || ' has ' || coalesce(a.tasks, 0) || ' tasks '
        || coalesce(a.status, b.status) || ' where ' || coalesce(b.tasks, 0) || ' are counted' AS finding
      FROM (SELECT tenant, status, count(*) AS tasks, sum(bytes) AS bytes FROM tasks GROUP BY tenant, status) AS a
      FULL JOIN (SELECT tenant, status, sum(tasks) AS tasks, sum(bytes) AS bytes FROM (
          SELECT tenant, status, tasks, bytes FROM tallies WHERE kind = 'tenant'
          UNION ALL SELECT tenant, status, tasks, bytes FROM changes) AS u GROUP BY tenant, status) AS b
        ON a.tenant = b.tenant AND a.status = b.status
      WHERE coalesce(a.tasks, 0) <> coalesce(b.tasks, 0) OR coalesce(a.bytes, 0) <> coalesce(b.bytes, 0) LIMIT 10`,
  },
]

/** A check reads everything, and may take its time. */
const checkTimeoutMs = 600_000

export class PostgresMaintenance implements Maintenance {
  readonly #database: Database
  readonly #tallies: Tallies

  constructor(database: Database, tallies: Tallies) {
    this.#database = database
    this.#tallies = tallies
  }

  async prune(retention: Retention, nowMs: number, limit: number): Promise<number> {
    let removed = await this.#removeEnded(retention.finishedBeforeMs, limit)
    const tooMany = (await this.#tallies.countEnded()) - retention.finishedMax
    if (tooMany > 0 && removed < limit) {
      removed += await this.#removeEnded(Number.MAX_SAFE_INTEGER, Math.min(tooMany, limit - removed))
    }
    if (removed < limit) {
      removed += (await this.#database.query(removeExpired, [nowMs, limit - removed])).length
    }
    if (removed < limit) removed += await pruneUsage(this.#database, nowMs, limit - removed)
    await this.#database.query(removeLanes, [limit])
    await this.#database.query(removeZeros)
    return removed
  }

  pruneTenants(prune: TenantPrune): Promise<TenantPruned> {
    return pruneTenants(this.#database, this.#tallies, prune)
  }

  async check(): Promise<string[]> {
    return this.#database.transact(async (client) => {
      // All looks at one moment, or what goes on meanwhile would look like damage.
      await client.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY')
      await client.query(`SET LOCAL statement_timeout = ${checkTimeoutMs}`)
      // These are the statements that do read whole tables.
      await client.query('SET LOCAL enable_seqscan = on')
      await client.query('SET LOCAL enable_hashjoin = on')
      await client.query('SET LOCAL enable_mergejoin = on')
      const findings: string[] = []
      for (const { text } of checks) {
        const { rows } = await client.query<{ finding: string }>({ text, query_timeout: checkTimeoutMs } as {
          text: string
        })
        findings.push(...rows.map(({ finding }) => finding))
      }
      return findings
    })
  }

  async describe(): Promise<{ driver: string; schemaVersion: number; bytes: number }> {
    const [row] = await this.#database.query<{ bytes: number; version: number }>(size)
    return { driver: 'postgres', schemaVersion: row?.version ?? migrations.length, bytes: row?.bytes ?? 0 }
  }

  async #removeEnded(beforeMs: number, limit: number): Promise<number> {
    const removed = await this.#database.transact(async (client) => {
      const rows = await execute<Removable>(client, pickEnded, [beforeMs, limit])
      if (rows.length > 0) await removeTasks(client, rows)
      return rows.length
    })
    if (removed > 0) this.#tallies.note()
    return removed
  }
}
