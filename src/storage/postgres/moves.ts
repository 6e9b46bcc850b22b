import { strict as assert } from 'node:assert'
import type { ClientBase } from 'pg'
import type { Wake } from '../store.ts'
import type { MovedTask, TaskError, TaskEvent } from '../task-store.ts'
import { canMove, isFinal, type TaskStatus } from '../task-states.ts'
import { execute, type Statement } from './database.ts'
import { updateLanes } from './lanes.ts'
import { lastEvents, type HistoryColumns } from './rows.ts'
import { tellMoved } from './settle.ts'
import { changesFrom, insertChanges, type Change } from './tallies.ts'
import { toRows } from './values.ts'

/** What a change of state has to know about the task. */
export type MoveRow = {
  id: string
  tenant: string
  model: string
  band: number
  status: TaskStatus
  attempt: number
  attempts_max: number
  attempts_each: number
  cost: number
  tag: number | null
  bytes: number
  notify: boolean
  cancel_requested: boolean
  parent: string | null
  ready_at: number | null
  deadline_at: number | null
  started_at: number | null
  finished_at: number | null
  result_bytes: number | null
  error_code: string | null
  error_message: string | null
} & HistoryColumns

export const moveColumns = `t.id, t.tenant, t.model, t.band, t.status, t.attempt, t.attempts_max, t.attempts_each, t.cost,
  t.tag, t.bytes, t.notify, t.cancel_requested, t.parent, t.ready_at, t.deadline_at, t.started_at, t.finished_at,
  t.result_bytes, t.error_code, t.error_message, t.seq, t.stored_seq, t.born, t.instance`

export type Move = {
  row: MoveRow
  to: TaskStatus
  atMs: number
  /** For the history. */
  reason: TaskError | null
  /** As the attempt's failure as well. */
  isFailure?: boolean
}

const write: Statement = {
  name: 'move',
  text: `
    WITH tasks_in AS (
      UPDATE tasks t SET status = i.status, seq = i.seq, stored_seq = i.seq, tag = i.tag, ready_at = i.ready_at,
        deadline_at = i.deadline_at, finished_at = i.finished_at, attempts_max = i.attempts_max,
        cancel_requested = i.cancel_requested, error_code = i.error_code, error_message = i.error_message,
        result_bytes = i.result_bytes, lease_until = NULL, owner = NULL
      FROM json_to_recordset($1::json) AS i (id text, status status, seq integer, tag double precision,
        ready_at bigint, deadline_at bigint, finished_at bigint, attempts_max integer, cancel_requested boolean,
        error_code text, error_message text, result_bytes integer)
      WHERE t.id = i.id
    ), events_in AS (
      INSERT INTO events (id, seq, at, status, attempt, error_code, error_message, instance)
      SELECT * FROM json_to_recordset($2::json) AS e (id text, seq integer, at bigint, status status, attempt integer,
        error_code text, error_message text, instance text)
    ), outbox_in AS (
      INSERT INTO outbox (id, task_id, tenant, created_at, due_at)
      SELECT id, task_id, tenant, at, at FROM json_to_recordset($3::json)
        AS o (id text, task_id text, tenant text, at bigint)
    ), lanes_in AS (${updateLanes('$4')}
    )
    ${insertChanges(changesFrom('$5'))}`,
}

/** The ways from a state to another that are not a worker's. The rows must be locked; `lanes` comes from `takeTags`. */
export async function moveAll(
  client: ClientBase,
  moves: readonly Move[],
  lanes: string,
): Promise<{ moved: MovedTask[]; wakes: Wake[] }> {
  const events = moves.flatMap(({ row, ...move }) => [
    ...lastEvents(row).map((event) => toEventRow(row.id, event)),
    toEventRow(row.id, {
      seq: row.seq + 1,
      atMs: move.atMs,
      status: move.to,
      attempt: row.attempt,
      error: move.reason,
      instance: null,
    }),
  ])
  const messages = moves
    .filter(({ row, to }) => row.notify && isFinal(to))
    .map(({ row, atMs }) => ({
      id: `msg_${row.id}_${row.seq + 1}`,
      task_id: row.id,
      tenant: row.tenant,
      at: atMs,
    }))
  await execute(client, write, [
    toRows(moves.map(toMovedRow)),
    toRows(events),
    toRows(messages),
    lanes,
    toRows(moves.flatMap(countMove)),
  ])
  const moved = moves.map(({ row: { id, tenant, model, parent }, to }) => ({
    id,
    tenant,
    model,
    status: to,
    parent,
  }))
  return { moved, wakes: moves.flatMap(({ row, to }) => tellMoved({ ...row, status: to })) }
}

function toMovedRow({ row, to, atMs, reason, isFailure = false }: Move) {
  assert(canMove(row.status, to), `a task can't go from ${row.status} to ${to}`)
  const ends = isFinal(to)
  const error = isFailure && reason ? { error_code: reason.code, error_message: reason.message } : {}
  return {
    id: row.id,
    status: to,
    seq: row.seq + 1,
    tag: row.tag,
    ready_at: ends ? row.ready_at : atMs,
    deadline_at: row.deadline_at,
    finished_at: ends ? atMs : null,
    attempts_max: row.attempts_max,
    cancel_requested: ends && row.cancel_requested,
    error_code: row.error_code,
    error_message: row.error_message,
    result_bytes: row.result_bytes,
    ...error,
  }
}

const toEventRow = (id: string, { seq, atMs, status, attempt, error, instance }: TaskEvent) => ({
  id,
  seq,
  at: atMs,
  status,
  attempt,
  error_code: error?.code ?? null,
  error_message: error?.message ?? null,
  instance,
})

function countMove({ row: { tenant, model, parent, status, bytes }, to }: Move): Change[] {
  return [
    { tenant, model, parent, status, tasks: -1, bytes: -bytes },
    { tenant, model, parent, status: to, tasks: 1, bytes },
  ]
}
