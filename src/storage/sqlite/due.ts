import { reasons } from '../reasons.ts'
import type { MovedTask } from '../task-store.ts'
import type { Context } from './context.ts'
import { keepError, move, moveColumns, type Move, type MoveRow } from './move.ts'

/** What time does to tasks: in small steps, the longest overdue first. */

export function promote(context: Context, nowMs: number, limit: number): MovedTask[] {
  const rows = context
    .sql(`SELECT ${moveColumns} FROM tasks WHERE status = 0 AND run_at <= ? ORDER BY run_at, n LIMIT ?`)
    .all(nowMs, limit) as unknown as MoveRow[]
  return rows.map((row) => moveOn(context, row, { to: 'queued', atMs: nowMs }))
}

export function expire(context: Context, nowMs: number, limit: number): MovedTask[] {
  const rows = context
    .sql(
      `SELECT ${moveColumns} FROM tasks
       WHERE deadline_at IS NOT NULL AND status < 2 AND deadline_at <= ? ORDER BY deadline_at, n LIMIT ?`,
    )
    .all(nowMs, limit) as unknown as MoveRow[]
  return rows.map((row) => {
    keepError(context, row.n, reasons.expired)
    return moveOn(context, row, { to: 'expired', atMs: nowMs, error: reasons.expired })
  })
}

export function rescue(context: Context, nowMs: number, limit: number): MovedTask[] {
  const rows = context
    .sql(
      `SELECT ${moveColumns} FROM tasks WHERE status = 2 AND lease_until <= ? ORDER BY lease_until, n LIMIT ?`,
    )
    .all(nowMs, limit) as unknown as MoveRow[]
  return rows.map((row) => {
    keepError(context, row.n, reasons.workerLost)
    if (row.cancel_requested === 1) {
      return moveOn(context, row, { to: 'cancelled', atMs: nowMs, error: reasons.cancelled })
    }
    const to = row.attempt >= row.attempts_max ? 'dead' : 'queued'
    return moveOn(context, row, { to, atMs: nowMs, error: reasons.workerLost })
  })
}

/**
 * Ends the leases of all running tasks, which the next rescue takes, and of the messages of the outbox, which the next
 * claim takes; a message that waits for its next try goes on waiting. For the start of a server alone, when the lock on
 * the folder says that nobody else has the database open: whoever held these leases is dead.
 */
export function freeLeases(context: Context): void {
  context.transact(() => {
    context.sql('UPDATE tasks SET lease_until = 0 WHERE status = 2 AND lease_until > 0').run()
    context.sql('UPDATE outbox SET due_at = 0, leased = 0 WHERE leased = 1').run()
  })
}

function moveOn(context: Context, row: MoveRow, change: Move): MovedTask {
  move(context, row, change)
  const { id, tenant, model, parent } = row
  return { id, tenant, model, status: change.to, parent }
}
