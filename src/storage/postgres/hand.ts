import type { ClientBase } from 'pg'
import { reasons } from '../reasons.ts'
import type { Wake } from '../store.ts'
import type { TaskRow } from '../task-store.ts'
import { canMove, isFinal } from '../task-states.ts'
import { execute, type Database, type Statement } from './database.ts'
import { takeTags } from './lanes.ts'
import { moveAll, moveColumns, type MoveRow } from './moves.ts'
import { readTasks } from './submit.ts'
import { changesFrom, insertChanges, type Change } from './tallies.ts'
import { toRows } from './values.ts'

/** What people do to a task by hand. */

const lockOwn: Statement = {
  name: 'lock_own',
  text: `SELECT ${moveColumns} FROM tasks t WHERE t.id = $1 AND t.tenant = $2 FOR UPDATE`,
}

const askCancel: Statement = {
  name: 'ask_cancel',
  text: 'UPDATE tasks SET cancel_requested = true WHERE id = $1',
}

const removeEverywhere: Statement = {
  name: 'remove_tasks',
  text: `
    WITH gone AS (
      DELETE FROM tasks WHERE id = ANY ($1) RETURNING id, tenant, idempotency_key
    ), keys_out AS (
      DELETE FROM idempotency i USING gone g WHERE i.tenant = g.tenant AND i.key = g.idempotency_key AND i.id = g.id
    ), payloads_out AS (DELETE FROM payloads WHERE id = ANY ($1)
    ), results_out AS (DELETE FROM results WHERE id = ANY ($1)
    ), steps_out AS (DELETE FROM steps WHERE id = ANY ($1)
    ), events_out AS (DELETE FROM events WHERE id = ANY ($1)
    ), outbox_out AS (DELETE FROM outbox WHERE task_id = ANY ($1)
    )
    ${insertChanges(changesFrom('$2'))}`,
}

async function lockTask(client: ClientBase, tenant: string, id: string): Promise<MoveRow | undefined> {
  const [row] = await execute<MoveRow>(client, lockOwn, [id, tenant])
  return row
}

const readTask = async (client: ClientBase, id: string): Promise<TaskRow> =>
  (await readTasks(client, [id])).get(id)!

type ByHand<T> = { result: T; wakes: Wake[] }

export function cancel(
  database: Database,
  { tenant, id, nowMs }: { tenant: string; id: string; nowMs: number },
): Promise<ByHand<TaskRow | null>> {
  return database.transact(async (client) => {
    const row = await lockTask(client, tenant, id)
    if (!row) return { result: null, wakes: [] }
    let wakes: Wake[] = []
    if (row.status === 'running') {
      if (!row.cancel_requested) await execute(client, askCancel, [id])
      wakes = [{ kind: 'cancel', id }]
    } else if (!isFinal(row.status)) {
      const move = { row, to: 'cancelled', atMs: nowMs, reason: reasons.cancelled } as const
      wakes = (await moveAll(client, [move], '[]')).wakes
    }
    return { result: await readTask(client, id), wakes }
  })
}

export function requeue(
  database: Database,
  { tenant, id, nowMs }: { tenant: string; id: string; nowMs: number },
): Promise<ByHand<{ task: TaskRow; moved: boolean } | null>> {
  return database.transact(async (client) => {
    const row = await lockTask(client, tenant, id)
    if (!row) return { result: null, wakes: [] }
    if (!isFinal(row.status) || !canMove(row.status, 'queued')) {
      return { result: { task: await readTask(client, id), moved: false }, wakes: [] }
    }
    // What it was worth in the line is used up, and a deadline in the past would end it again at once. The attempts
    // count on: the number of one is never used twice.
    const { tags, lanes } = await takeTags(client, [{ ...row, tag: null }])
    const again: MoveRow = {
      ...row,
      tag: tags[0]!,
      attempts_max: row.attempt + row.attempts_each,
      deadline_at: row.deadline_at !== null && row.deadline_at <= nowMs ? null : row.deadline_at,
      result_bytes: null,
    }
    const move = { row: again, to: 'queued', atMs: nowMs, reason: reasons.requeued } as const
    const { wakes } = await moveAll(client, [move], lanes)
    return { result: { task: await readTask(client, id), moved: true }, wakes }
  })
}

export function remove(database: Database, tenant: string, id: string): Promise<'removed' | 'live' | null> {
  return database.transact(async (client, again) => {
    const row = await lockTask(client, tenant, id)
    // The try before may have removed it; a task that was never there is then called removed as well.
    if (!row) return again ? 'removed' : null
    if (!isFinal(row.status)) return 'live'
    await removeTasks(client, [row])
    return 'removed'
  })
}

export type Removable = Pick<MoveRow, 'id' | 'tenant' | 'model' | 'parent' | 'status' | 'bytes'>

/** Removes locked tasks with all that belongs to them. */
export async function removeTasks(client: ClientBase, rows: readonly Removable[]): Promise<void> {
  const changes = rows.map(({ tenant, model, parent, status, bytes }): Change => ({
    tenant,
    model,
    parent,
    status,
    tasks: -1,
    bytes: -bytes,
  }))
  await execute(client, removeEverywhere, [rows.map(({ id }) => id), toRows(changes)])
}
