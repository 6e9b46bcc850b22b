import { canMove, isFinal } from '../task-states.ts'
import { reasons } from '../reasons.ts'
import type { TaskRow } from '../task-store.ts'
import type { Context } from './context.ts'
import { findMoveRow, move, type MoveRow } from './move.ts'
import { readTask } from './read-tasks.ts'
import { statusNumbers, toStatus } from './statuses.ts'

/** What people do to a task by hand. */

function findOwn(context: Context, tenant: string, id: string): MoveRow | null {
  const row = findMoveRow(context, id)
  return row && row.tenant === tenant ? row : null
}

export function cancel(context: Context, tenant: string, id: string, nowMs: number): TaskRow | null {
  const row = findOwn(context, tenant, id)
  if (!row) return null
  if (row.status === statusNumbers.running) {
    context.sql('UPDATE tasks SET cancel_requested = 1 WHERE n = ?').run(row.n)
    context.wakes.cancel(id)
  } else if (!isFinal(toStatus(row.status))) {
    move(context, row, { to: 'cancelled', atMs: nowMs, error: reasons.cancelled })
  }
  return readTask(context, row.n)
}

export function requeue(
  context: Context,
  tenant: string,
  id: string,
  nowMs: number,
): { task: TaskRow; moved: boolean } | null {
  const row = findOwn(context, tenant, id)
  if (!row) return null
  const status = toStatus(row.status)
  const moved = isFinal(status) && canMove(status, 'queued')
  if (moved) {
    const { attempts_each: each } = context
      .sql('SELECT attempts_each FROM payloads WHERE n = ?')
      .get(row.n) as { attempts_each: number }
    // What it was worth in the line is used up, and a deadline in the past would end it again at once. The attempts
    // count on: the number of one is never used twice.
    context
      .sql('UPDATE tasks SET deadline_at = iif(deadline_at <= ?, NULL, deadline_at) WHERE n = ?')
      .run(nowMs, row.n)
    context.sql('UPDATE results SET result = NULL WHERE n = ?').run(row.n)
    const again = { ...row, tag: null }
    const attemptsMax = row.attempt + each
    move(context, again, { to: 'queued', atMs: nowMs, error: reasons.requeued, attemptsMax })
  }
  return { task: readTask(context, row.n), moved }
}

export function remove(context: Context, tenant: string, id: string): 'removed' | 'live' | null {
  const row = findOwn(context, tenant, id)
  if (!row) return null
  if (!isFinal(toStatus(row.status))) return 'live'
  removeRow(context, row)
  return 'removed'
}

/** With all that belongs to it. */
export function removeRow(
  context: Context,
  row: Pick<MoveRow, 'n' | 'tenant' | 'model' | 'parent' | 'bytes' | 'status'>,
): void {
  const { key } = context.sql('SELECT idempotency_key AS key FROM payloads WHERE n = ?').get(row.n) as {
    key: string | null
  }
  if (key !== null) context.sql('DELETE FROM idempotency WHERE tenant = ? AND key = ?').run(row.tenant, key)
  for (const table of ['tasks', 'payloads', 'results', 'steps', 'events', 'outbox']) {
    context.sql(`DELETE FROM ${table} WHERE n = ?`).run(row.n)
  }
  context.tallies.remove(row, row.status)
}
