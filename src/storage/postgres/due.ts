import { reasons } from '../reasons.ts'
import type { Wake } from '../store.ts'
import type { MovedTask } from '../task-store.ts'
import { execute, type Database, type Statement } from './database.ts'
import { takeTags } from './lanes.ts'
import { moveAll, moveColumns, type Move, type MoveRow } from './moves.ts'

/**
 * What time does to tasks: in small steps, the longest overdue first. Of several processes that look at the same
 * moment each takes rows of its own.
 */

const pick = (name: string, where: string, order: string): Statement => ({
  name,
  text: `SELECT ${moveColumns} FROM tasks t WHERE ${where} ORDER BY ${order} LIMIT $2 FOR UPDATE SKIP LOCKED`,
})

const dueDelayed = pick('due_delayed', `t.status = 'delayed' AND t.run_at <= $1`, 't.run_at, t.id')
const dueDeadline = pick(
  'due_deadline',
  `t.deadline_at IS NOT NULL AND t.status IN ('delayed', 'queued') AND t.deadline_at <= $1`,
  't.deadline_at, t.id',
)
const dueLease = pick('due_lease', `t.status = 'running' AND t.lease_until <= $1`, 't.lease_until, t.id')

const nextDue: Statement = {
  name: 'next_due',
  text: `
    SELECT least(
      (SELECT run_at FROM tasks WHERE status = 'delayed' ORDER BY run_at LIMIT 1),
      (SELECT deadline_at FROM tasks WHERE deadline_at IS NOT NULL AND status IN ('delayed', 'queued')
        ORDER BY deadline_at LIMIT 1)) AS due`,
}

export type Swept = { moved: MovedTask[]; wakes: Wake[] }

export const promote = (database: Database, nowMs: number, limit: number): Promise<Swept> =>
  sweep(database, dueDelayed, { nowMs, limit }, (row) => ({ row, to: 'queued', atMs: nowMs, reason: null }))

export const expire = (database: Database, nowMs: number, limit: number): Promise<Swept> =>
  sweep(database, dueDeadline, { nowMs, limit }, (row) => ({
    row,
    to: 'expired',
    atMs: nowMs,
    reason: reasons.expired,
    isFailure: true,
  }))

export const rescue = (database: Database, nowMs: number, limit: number): Promise<Swept> =>
  sweep(database, dueLease, { nowMs, limit }, (row) => rescueOne(row, nowMs))

function rescueOne(row: MoveRow, nowMs: number): Move {
  if (row.cancel_requested) {
    const { code, message } = reasons.workerLost
    const failed = { ...row, error_code: code, error_message: message }
    return { row: failed, to: 'cancelled', atMs: nowMs, reason: reasons.cancelled }
  }
  const to = row.attempt >= row.attempts_max ? 'dead' : 'queued'
  return { row, to, atMs: nowMs, reason: reasons.workerLost, isFailure: true }
}

/** Picks, decides and writes in one transaction; run twice, the second finds nothing left to do. */
function sweep(
  database: Database,
  statement: Statement,
  { nowMs, limit }: { nowMs: number; limit: number },
  decide: (row: MoveRow) => Move,
): Promise<Swept> {
  return database.transact(async (client) => {
    const rows = await execute<MoveRow>(client, statement, [nowMs, limit])
    if (rows.length === 0) return { moved: [], wakes: [] }
    const moves = rows.map(decide)
    const joining = moves.filter(({ to }) => to === 'queued').map(({ row }) => row)
    const { tags, lanes } = await takeTags(client, joining)
    for (const [index, row] of joining.entries()) row.tag = tags[index]!
    return moveAll(client, moves, lanes)
  })
}

export async function nextDueMs(database: Database): Promise<number | null> {
  const [row] = await database.query<{ due: number | null }>(nextDue)
  return row?.due ?? null
}
