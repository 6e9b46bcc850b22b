import { reasons } from '../reasons.ts'
import type { Wake } from '../store.ts'
import type { AttemptOutcome, LeaseState, SettleOutcome, Settlement, TaskStep } from '../task-store.ts'
import { isFinal, type TaskStatus } from '../task-states.ts'
import { execute, type Database, type Statement } from './database.ts'
import { insertChanges } from './tallies.ts'
import { packBytes, toRows } from './values.ts'

/** Written so that the planner does not think of the index of running tasks, and looks each up by its id. */
const isRunning = "(t.status = 'running') IS TRUE"

/**
 * `waits` marks an end that leads back into the line or out of it for a time: with a cancel asked for meanwhile, it
 * becomes `cancelled`. For all ends but success.
 */
const settleAttempts: Statement = {
  name: 'settle',
  text: `
    WITH input AS MATERIALIZED (
      SELECT * FROM json_to_recordset($1::json) AS i (
        n integer, id text, attempt integer, at bigint, instance text, status status, waits boolean, released boolean,
        error_code text, error_message text, run_at bigint, "from" integer, length integer)
    ), moved AS (
      UPDATE tasks t SET
        status = CASE WHEN i.waits AND t.cancel_requested THEN 'cancelled' ELSE i.status END,
        seq = t.seq + 1,
        stored_seq = t.seq + 1,
        run_at = CASE WHEN i.waits AND NOT t.cancel_requested THEN coalesce(i.run_at, t.run_at) ELSE t.run_at END,
        ready_at = CASE WHEN i.waits AND i.released IS NOT TRUE AND NOT t.cancel_requested
          THEN CASE WHEN i.status = 'queued' THEN i.at END ELSE t.ready_at END,
        attempts_max = CASE WHEN i.released AND NOT t.cancel_requested THEN t.attempts_max + 1 ELSE t.attempts_max END,
        finished_at = CASE WHEN i.waits AND NOT t.cancel_requested THEN NULL ELSE i.at END,
        lease_until = NULL,
        owner = NULL,
        error_code = coalesce(i.error_code, t.error_code),
        error_message = CASE WHEN i.error_code IS NULL THEN t.error_message ELSE i.error_message END,
        instance = i.instance,
        result_bytes = i.length
      FROM input i WHERE t.id = i.id AND ${isRunning} AND t.attempt = i.attempt
      RETURNING i.n, t.id, t.tenant, t.model, t.parent, t.bytes, t.status, t.seq, t.attempt, t.started_at, t.notify,
        i.at, t.instance, i.error_code, i.error_message, i."from", i.length
    ), results_in AS (
      INSERT INTO results (id, result) SELECT id, substring($2::bytea FROM "from" FOR length) FROM moved WHERE length > 0
      ON CONFLICT (id) DO UPDATE SET result = excluded.result
    ), events_in AS (
      INSERT INTO events (id, seq, at, status, attempt, error_code, error_message, instance)
      SELECT id, seq - 1, started_at, 'running'::status, attempt, NULL, NULL, NULL FROM moved
      UNION ALL
      SELECT id, seq, at, status, attempt,
        CASE WHEN status = 'cancelled' THEN '${reasons.cancelled.code}' ELSE error_code END,
        CASE WHEN status = 'cancelled' THEN '${reasons.cancelled.message}' ELSE error_message END, instance
      FROM moved
    ), outbox_in AS (
      INSERT INTO outbox (id, task_id, tenant, created_at, due_at)
      SELECT 'msg_' || id || '_' || seq, id, tenant, at, at FROM moved WHERE notify AND status >= 'succeeded'
    ), changed AS (${insertChanges(`
        SELECT tenant, model, parent, 'running'::status, -count(*), -sum(bytes)::bigint FROM moved
          GROUP BY tenant, model, parent
        UNION ALL
        SELECT tenant, model, parent, status, count(*), sum(bytes)::bigint FROM moved
          GROUP BY tenant, model, parent, status`)}
    )
    SELECT n, id, model, parent, status, notify FROM moved`,
}

/**
 * The usual end, without what only the others need: most attempts succeed, and the whole system goes through here. The
 * numbers come as arrays, which the server takes apart at half the cost of JSON.
 */
const settleSuccesses: Statement = {
  name: 'settle_successes',
  text: `
    WITH moved AS (
      UPDATE tasks t SET status = 'succeeded', seq = t.seq + 1, finished_at = i.at, lease_until = NULL, owner = NULL,
        instance = i.instance, prompt_tokens = i.prompt_tokens, completion_tokens = i.completion_tokens,
        cached_tokens = i.cached_tokens, result_bytes = i.length
      FROM unnest($1::integer[], $2::text[], $3::integer[], $4::bigint[], $5::text[], $6::integer[], $7::integer[],
        $8::integer[], $9::integer[], $10::integer[])
        AS i (n, id, attempt, at, instance, prompt_tokens, completion_tokens, cached_tokens, start, length)
      WHERE t.id = i.id AND ${isRunning} AND t.attempt = i.attempt
      RETURNING i.n, t.id, t.tenant, t.model, t.parent, t.bytes, t.seq, t.notify, i.at, i.start, i.length
    ), results_in AS (
      INSERT INTO results (id, result) SELECT id, substring($11::bytea FROM start FOR length) FROM moved
      WHERE length > 0 ON CONFLICT (id) DO UPDATE SET result = excluded.result
    ), outbox_in AS (
      INSERT INTO outbox (id, task_id, tenant, created_at, due_at)
      SELECT 'msg_' || id || '_' || seq, id, tenant, at, at FROM moved WHERE notify
    ), counted AS MATERIALIZED (
      SELECT tenant, model, parent, count(*) AS tasks, sum(bytes)::bigint AS bytes FROM moved
      GROUP BY tenant, model, parent
    ), changed AS (${insertChanges(`
        SELECT tenant, model, parent, 'running'::status, -tasks, -bytes FROM counted
        UNION ALL SELECT tenant, model, parent, 'succeeded', tasks, bytes FROM counted`)}
    )
    SELECT n, id, model, parent, 'succeeded' AS status, notify FROM moved`,
}

/** Ends of attempts that were written by an earlier try whose answer was lost. */
const findSettled: Statement = {
  name: 'find_settled',
  text: `
    SELECT w.n, t.id, t.model, t.parent, t.notify, w.status FROM json_to_recordset($1::json)
      AS w (n integer, id text, attempt integer, at bigint, status status, error_code text)
    JOIN tasks t ON t.id = w.id
    WHERE CASE WHEN w.status = 'succeeded' THEN t.status = 'succeeded' AND t.attempt = w.attempt
      AND t.finished_at = w.at
    ELSE EXISTS (SELECT 1 FROM events e WHERE e.id = w.id AND e.attempt = w.attempt AND e.at = w.at
      AND e.status = w.status AND e.error_code IS NOT DISTINCT FROM w.error_code) END`,
}

type SettledRow = {
  n: number
  id: string
  model: string
  parent: string | null
  status: TaskStatus
  notify: boolean
}

type Settled = { outcomes: SettleOutcome[]; wakes: Wake[] }

/** Whether it goes the short way: see `settleSuccesses`. */
export const isSuccess = ({ outcome }: Settlement): boolean => outcome.kind === 'succeeded'

/** Ends attempts that are all successes, or none of them. */
export async function settleAll(database: Database, settlements: readonly Settlement[]): Promise<Settled> {
  const { bytes, places } = packBytes(settlements.map(({ outcome }) => readResult(outcome)))
  // An attempt ends once: of two ends in one batch the first counts. Sorted, as all do who lock several tasks.
  const seen = new Set<string>()
  const rows = settlements
    .map((settlement, n) => toRow(settlement, n, places[n]!))
    .filter(({ id, attempt }) => seen.size !== seen.add(`${attempt} ${id}`).size)
    .sort((one, other) => (one.id < other.id ? -1 : 1))
  const isShort = isSuccess(settlements[0]!)
  const moved = await database.retry(async (client, again) => {
    const before = again ? await execute<SettledRow>(client, findSettled, [toRows(rows)]) : []
    const done = new Set(before.map(({ n }) => n))
    const left = rows.filter(({ n }) => !done.has(n))
    const after = isShort
      ? await execute<SettledRow>(client, settleSuccesses, [...toColumns(left), bytes])
      : await execute<SettledRow>(client, settleAttempts, [toRows(left), bytes])
    return [...before, ...after]
  })
  const outcomes = settlements.map((): SettleOutcome => ({ kind: 'lost' }))
  for (const { n, status } of moved) outcomes[n] = { kind: 'settled', status }
  return { outcomes, wakes: moved.flatMap(tellMoved) }
}

const toColumns = (rows: readonly SettleRow[]): unknown[] => [
  rows.map(({ n }) => n),
  rows.map(({ id }) => id),
  rows.map(({ attempt }) => attempt),
  rows.map(({ at }) => at),
  rows.map(({ instance }) => instance),
  rows.map((row) => row.prompt_tokens ?? null),
  rows.map((row) => row.completion_tokens ?? null),
  rows.map((row) => row.cached_tokens ?? null),
  rows.map(({ from }) => from),
  rows.map(({ length }) => length),
]

/** What is told after the commit of a change of state. */
export function tellMoved(row: Pick<SettledRow, 'id' | 'model' | 'parent' | 'status' | 'notify'>): Wake[] {
  const wakes: Wake[] = [{ kind: 'changed', id: row.id, parent: row.parent }]
  if (row.status === 'queued') wakes.push({ kind: 'ready', model: row.model })
  if (isFinal(row.status) && row.notify) wakes.push({ kind: 'outbox' })
  return wakes
}

function readResult(outcome: AttemptOutcome): Uint8Array | null {
  if (outcome.kind === 'succeeded') return outcome.result
  return outcome.kind === 'dead' ? (outcome.result ?? null) : null
}

type SettleRow = {
  n: number
  id: string
  attempt: number
  at: number
  instance: string | null
  status: TaskStatus
  waits?: boolean
  released?: boolean
  run_at?: number
  error_code?: string
  error_message?: string
  prompt_tokens?: number
  completion_tokens?: number
  cached_tokens?: number
  from: number | null
  length: number | null
}

function toRow(
  { id, attempt, nowMs, instance, outcome }: Settlement,
  n: number,
  { from, length }: { from: number | null; length: number | null },
): SettleRow {
  const row = { n, id, attempt, at: nowMs, instance, from, length }
  switch (outcome.kind) {
    case 'succeeded': {
      if (outcome.usage === null) return { ...row, status: 'succeeded' }
      const { promptTokens, completionTokens, cachedTokens } = outcome.usage
      const usage = {
        prompt_tokens: promptTokens,
        completion_tokens: completionTokens,
        cached_tokens: cachedTokens,
      }
      return { ...row, status: 'succeeded', ...usage }
    }
    case 'dead':
      return { ...row, status: 'dead', ...errorColumns(outcome.error) }
    case 'retry': {
      const status = outcome.runAtMs > nowMs ? 'delayed' : 'queued'
      return { ...row, status, waits: true, run_at: outcome.runAtMs, ...errorColumns(outcome.error) }
    }
    case 'released':
      return { ...row, status: 'queued', waits: true, released: true }
    case 'cancelled':
      return { ...row, status: 'cancelled' }
    case 'expired':
      return { ...row, status: 'expired', ...errorColumns(reasons.expired) }
  }
}

const errorColumns = ({ code, message }: { code: string; message: string }) => ({
  error_code: code,
  error_message: message,
})

const renewLeases: Statement = {
  name: 'renew',
  text: `
    UPDATE tasks t SET lease_until = i.until
    FROM json_to_recordset($1::json) AS i (n integer, id text, attempt integer, until bigint)
    WHERE t.id = i.id AND ${isRunning} AND t.attempt = i.attempt RETURNING i.n, t.cancel_requested`,
}

export type Lease = { id: string; attempt: number; untilMs: number }

export async function renewAll(database: Database, leases: readonly Lease[]): Promise<LeaseState[]> {
  // Asked for twice in one batch, a lease is renewed once, to the later time.
  const wanted = new Map<string, { n: number; id: string; attempt: number; until: number }>()
  const keys = leases.map(({ id, attempt, untilMs }) => {
    const key = `${attempt} ${id}`
    const row = wanted.get(key)
    if (row) row.until = Math.max(row.until, untilMs)
    else wanted.set(key, { n: wanted.size, id, attempt, until: untilMs })
    return key
  })
  const sorted = [...wanted.values()].sort((one, other) => (one.id < other.id ? -1 : 1))
  const rows = await database.query<{ n: number; cancel_requested: boolean }>(renewLeases, [toRows(sorted)])
  const held = new Map(rows.map((row) => [row.n, row.cancel_requested]))
  return keys.map((key) => {
    const cancelRequested = held.get(wanted.get(key)!.n)
    if (cancelRequested === undefined) return 'lost'
    return cancelRequested ? 'cancelled' : 'held'
  })
}

/** The lock on the row makes it the attempt's own for the moment of the write. */
const keepStep: Statement = {
  name: 'save_step',
  text: `
    WITH held AS (
      UPDATE tasks SET has_steps = true WHERE id = $1 AND status = 'running' AND attempt = $2 RETURNING id
    )
    INSERT INTO steps (id, step, attempt, result) SELECT id, $3, $4, $5 FROM held
    ON CONFLICT (id, step) DO UPDATE SET attempt = excluded.attempt, result = excluded.result RETURNING id`,
}

export async function saveStep(
  database: Database,
  { id, attempt, step }: { id: string; attempt: number; step: TaskStep },
): Promise<boolean> {
  const values = [id, attempt, step.step, step.attempt, Buffer.from(step.result)]
  return (await database.query(keepStep, values)).length > 0
}
