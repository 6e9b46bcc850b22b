import type { ClientBase } from 'pg'
import { toCreatedTask } from '../created-task.ts'
import type { NewTask, QueueLimits, SubmitOutcome, TaskRow } from '../task-store.ts'
import { execute, type Database, type Statement } from './database.ts'
import { takeTags, updateLanes } from './lanes.ts'
import { taskColumns, toTask, type TaskColumns } from './rows.ts'
import { changesFrom, insertChanges, readLive, type Change, type Tally } from './tallies.ts'
import { packBytes, toRows, toStorable } from './values.ts'

export type SubmitCall = { tasks: readonly NewTask[]; limits: QueueLimits }

const findRows: Statement = {
  name: 'find_rows',
  text: `SELECT ${taskColumns} FROM tasks t WHERE t.id = ANY ($1)`,
}

const findKnown: Statement = {
  name: 'find_known',
  text: `
    SELECT i.tenant, i.key, i.id, i.fingerprint
    FROM json_to_recordset($1::json) AS w (tenant text, key text)
    JOIN idempotency i ON i.tenant = w.tenant AND i.key = w.key`,
}

const insert: Statement = {
  name: 'submit',
  text: `
    WITH input AS MATERIALIZED (
      SELECT * FROM json_to_recordset($1::json) AS i (
        id text, tenant text, endpoint text, model text, band smallint, status status, cost double precision,
        tag double precision, bytes integer, attempts_max integer, created_at bigint, run_at bigint, ready_at bigint,
        deadline_at bigint, parent text, position integer, notify boolean, metadata jsonb, key text, fingerprint text,
        "from" integer)
    ), tasks_in AS (
      INSERT INTO tasks (id, tenant, endpoint, model, band, status, born, cost, tag, bytes, attempts_max,
        attempts_each, created_at, run_at, ready_at, deadline_at, parent, position, notify, metadata, idempotency_key)
      SELECT id, tenant, endpoint, model, band, status, status, cost, tag, bytes, attempts_max, attempts_max,
        created_at, run_at, ready_at, deadline_at, parent, position, notify, metadata, key FROM input
    ), payloads_in AS (
      INSERT INTO payloads (id, payload) SELECT id, substring($2::bytea FROM "from" FOR bytes) FROM input
    ), keys_in AS (
      INSERT INTO idempotency (tenant, key, id, fingerprint)
      SELECT tenant, key, id, fingerprint FROM input WHERE key IS NOT NULL ORDER BY tenant COLLATE "C", key COLLATE "C"
    ), lanes_in AS (${updateLanes('$3')}
    )
    ${insertChanges(changesFrom('$4'))}`,
}

type Decision = SubmitOutcome | { kind: 'existing'; id: string }

const keyOf = (tenant: string, key: string) => `${toStorable(tenant)}\n${toStorable(key)}`

/**
 * Stores the tasks of several calls in one transaction. The limits are exact within a process; several processes that
 * submit at the same moment may pass them by what one transaction carries.
 */
export function submitAll(database: Database, calls: readonly SubmitCall[]): Promise<SubmitOutcome[][]> {
  return database.transact(async (client, again) => {
    const tasks = calls.flatMap((call) => call.tasks)
    // The try before may have been committed although its answer was lost: the ids tell.
    const stored = again
      ? await readTasks(
          client,
          tasks.map(({ id }) => id),
        )
      : new Map<string, TaskRow>()
    const known = await readKnown(client, tasks)
    const tallies = await readLive(client, [...new Set(tasks.map(({ tenant }) => tenant))])
    const decisions = calls.map((call) =>
      call.tasks.map((task) => {
        const row = stored.get(task.id)
        return row ? ({ kind: 'created', task: row } as const) : decide(task, call.limits, { known, tallies })
      }),
    )
    const created = decisions.flatMap((list, call) =>
      calls[call]!.tasks.filter((task, index) => list[index]!.kind === 'created' && !stored.has(task.id)),
    )
    if (created.length > 0) await insertTasks(client, created)
    return fillIn(client, decisions)
  })
}

type Known = Map<string, { id: string; fingerprint: string | null }>

/** What becomes of a task; counts it at once, for those behind it. */
function decide(
  task: NewTask,
  limits: QueueLimits,
  { known, tallies }: { known: Known; tallies: { all: Tally; of: Map<string, Tally> } },
): Decision {
  if (task.idempotencyKey !== null) {
    const found = known.get(keyOf(task.tenant, task.idempotencyKey))
    const fingerprint = task.fingerprint === null ? null : toStorable(task.fingerprint)
    if (found && found.fingerprint !== fingerprint) return { kind: 'conflict', id: found.id }
    if (found) return { kind: 'existing', id: found.id }
  }
  const bytes = task.payload.byteLength
  const own = tallies.of.get(task.tenant)!
  const { all } = tallies
  if (own.tasks >= limits.tenantTasksMax) return { kind: 'full', scope: 'tenant', what: 'tasks' }
  if (own.bytes + bytes > limits.tenantBytesMax) return { kind: 'full', scope: 'tenant', what: 'bytes' }
  if (all.tasks >= limits.tasksMax) return { kind: 'full', scope: 'all', what: 'tasks' }
  if (all.bytes + bytes > limits.bytesMax) return { kind: 'full', scope: 'all', what: 'bytes' }
  for (const tally of [own, all]) {
    tally.tasks += 1
    tally.bytes += bytes
  }
  if (task.idempotencyKey !== null) {
    const { id, fingerprint } = task
    known.set(keyOf(task.tenant, task.idempotencyKey), {
      id,
      fingerprint: fingerprint === null ? null : toStorable(fingerprint),
    })
  }
  return { kind: 'created', task: toCreatedTask(task, firstStatus(task)) }
}

const isDelayed = (task: NewTask) => task.runAtMs !== null && task.runAtMs > task.createdAtMs
const firstStatus = (task: NewTask) => (isDelayed(task) ? 'delayed' : 'queued')

async function insertTasks(client: ClientBase, tasks: readonly NewTask[]): Promise<void> {
  // A delayed task joins the line when its time has come: until then it must not hold its tenant back.
  const queued = tasks.filter((task) => !isDelayed(task))
  const { tags, lanes } = await takeTags(client, queued)
  const tagOf = new Map(queued.map((task, index) => [task, tags[index]!]))
  const { bytes, places } = packBytes(tasks.map(({ payload }) => payload))
  const rows = tasks.map((task, index) => ({
    id: task.id,
    tenant: task.tenant,
    endpoint: task.endpoint,
    model: task.model,
    band: task.band,
    status: firstStatus(task),
    cost: task.cost,
    tag: tagOf.get(task) ?? null,
    bytes: task.payload.byteLength,
    attempts_max: task.attemptsMax,
    created_at: task.createdAtMs,
    run_at: task.runAtMs,
    ready_at: isDelayed(task) ? null : task.createdAtMs,
    deadline_at: task.deadlineMs,
    parent: task.parent,
    position: task.position,
    notify: task.notify,
    metadata: Object.keys(task.metadata).length > 0 ? task.metadata : null,
    key: task.idempotencyKey,
    fingerprint: task.fingerprint,
    from: places[index]!.from,
  }))
  await execute(client, insert, [toRows(rows), bytes, lanes, toRows(countCreated(tasks))])
}

function countCreated(tasks: readonly NewTask[]): Change[] {
  const changes = new Map<string, Change>()
  for (const task of tasks) {
    const { tenant, model, parent } = task
    const status = firstStatus(task)
    const key = JSON.stringify([tenant, model, parent, status])
    let change = changes.get(key)
    if (!change) changes.set(key, (change = { tenant, model, parent, status, tasks: 0, bytes: 0 }))
    change.tasks += 1
    change.bytes += task.payload.byteLength
  }
  return [...changes.values()]
}

async function readKnown(client: ClientBase, tasks: readonly NewTask[]): Promise<Known> {
  const wanted = tasks
    .filter(({ idempotencyKey }) => idempotencyKey !== null)
    .map(({ tenant, idempotencyKey }) => ({ tenant, key: idempotencyKey }))
  if (wanted.length === 0) return new Map()
  const rows = await execute<{ tenant: string; key: string; id: string; fingerprint: string | null }>(
    client,
    findKnown,
    [toRows(wanted)],
  )
  return new Map(rows.map(({ tenant, key, id, fingerprint }) => [keyOf(tenant, key), { id, fingerprint }]))
}

export async function readTasks(client: ClientBase, ids: readonly string[]): Promise<Map<string, TaskRow>> {
  const rows = await execute<TaskColumns>(client, findRows, [ids])
  return new Map(rows.map((row) => [row.id, toTask(row)]))
}

/** Reads the tasks that were there before, or that stand earlier in the same transaction. */
async function fillIn(client: ClientBase, decisions: readonly Decision[][]): Promise<SubmitOutcome[][]> {
  const ids = decisions
    .flat()
    .flatMap((decision) => ('id' in decision && decision.kind === 'existing' ? [decision.id] : []))
  if (ids.length === 0) return decisions as SubmitOutcome[][]
  const rows = await readTasks(client, ids)
  return decisions.map((list) =>
    list.map((decision) =>
      'id' in decision && decision.kind === 'existing'
        ? { kind: 'existing', task: rows.get(decision.id)! }
        : decision,
    ),
  )
}
