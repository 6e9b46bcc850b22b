import { strict as assert } from 'node:assert'
import type { TaskError, TaskUsage } from '../task-store.ts'
import { canMove, isFinal, type TaskStatus } from '../task-states.ts'
import type { Context } from './context.ts'
import { statusNumbers, toStatus } from './statuses.ts'

/** What a change of state has to know about the task. */
export type MoveRow = {
  n: number
  id: string
  tenant: string
  model: string
  band: number
  status: number
  attempt: number
  attempts_max: number
  cost: number
  tag: number | null
  bytes: number
  seq: number
  notify: number
  cancel_requested: number
  parent: string | null
  started_at: number | null
}

export const moveColumns = `n, id, tenant, model, band, status, attempt, attempts_max, cost, tag, bytes, seq, notify,
  cancel_requested, parent, started_at`

export const findMoveRow = (context: Context, id: string): MoveRow | undefined =>
  context.sql(`SELECT ${moveColumns} FROM tasks WHERE id = ?`).get(id) as MoveRow | undefined

/** As `findMoveRow` for a task that runs, and undefined for one that does not: the way of all that settles. */
export function findRunning(context: Context, id: string, attempt: number): MoveRow | undefined {
  const row = context.arraysAside(`SELECT ${moveColumns} FROM tasks WHERE id = ?`).get(id) as
    MoveTuple | undefined
  if (!row) return undefined
  const [
    n,
    ,
    tenant,
    model,
    band,
    status,
    found,
    attemptsMax,
    cost,
    tag,
    bytes,
    seq,
    notify,
    cancel,
    ...rest
  ] = row
  if (status !== statusNumbers.running || found !== attempt || context.pending.hasEnded(n)) return undefined
  const [parent, startedAtMs] = rest
  return {
    n,
    id,
    tenant,
    model,
    band,
    status,
    attempt,
    attempts_max: attemptsMax,
    cost,
    tag,
    bytes,
    seq,
    notify,
    cancel_requested: cancel,
    parent,
    started_at: startedAtMs,
  }
}

type MoveTuple = [
  n: number,
  id: string,
  tenant: string,
  model: string,
  band: number,
  status: number,
  attempt: number,
  attemptsMax: number,
  cost: number,
  tag: number | null,
  bytes: number,
  seq: number,
  notify: number,
  cancelRequested: number,
  parent: string | null,
  startedAtMs: number | null,
]

export type Move = {
  to: TaskStatus
  atMs: number
  /** For the history. */
  error?: TaskError | null
  instance?: string | null
  /** For `delayed`. */
  runAtMs?: number
  attemptsMax?: number
  /** It has waited already, and its age still counts. */
  keepAge?: boolean
}

/** The one way from a state to another, but for a claim: row, tallies, event, outbox and wakes together. */
export function move(context: Context, row: MoveRow, { to, atMs, ...more }: Move): void {
  assert(canMove(toStatus(row.status), to), `a task can't go from ${toStatus(row.status)} to ${to}`)
  const number = statusNumbers[to]
  const seq = row.seq + 1
  if (isFinal(to)) endRow(context, row, number, atMs)
  else waitRow(context, row, { to, atMs, ...more })
  context.tallies.move(row, row.status, number)
  if (row.status === statusNumbers.queued) context.lines.forgetFirsts()
  addEvent(context, row.n, {
    seq,
    atMs,
    number,
    attempt: row.attempt,
    error: more.error,
    instance: more.instance,
  })
  context.wakes.changed(row.id, row.parent)
  if (isFinal(to) && row.notify === 1) tellOutside(context, row, seq, atMs)
}

function endRow(context: Context, row: MoveRow, number: number, atMs: number): void {
  // Those that ran end by the thousand, and the lines never look at them.
  if (row.status === statusNumbers.running) {
    context.pending.end(row.n, number, atMs)
    return
  }
  context
    .sql('UPDATE tasks SET status = ?, seq = seq + 1, finished_at = ?, lease_until = NULL WHERE n = ?')
    .run(number, atMs, row.n)
}

/** Back into the line, or out of it until a time. A task that had a place in the line keeps it. */
function waitRow(context: Context, row: MoveRow, { to, atMs, runAtMs, attemptsMax, keepAge }: Move): void {
  const queued = to === 'queued'
  const tag = queued ? (row.tag ?? context.lines.takeTag(row)) : row.tag
  context
    .sql(
      `UPDATE tasks SET status = ?, seq = seq + 1, tag = ?, run_at = coalesce(?, run_at),
         ready_at = iif(?, ready_at, ?), attempts_max = ?, finished_at = NULL, lease_until = NULL, cancel_requested = 0
       WHERE n = ?`,
    )
    .run(
      statusNumbers[to],
      tag,
      runAtMs ?? null,
      keepAge ? 1 : 0,
      queued ? atMs : null,
      attemptsMax ?? row.attempts_max,
      row.n,
    )
  if (!queued) return
  context.lines.forgetFirsts()
  context.wakes.ready(row.model)
}

export function addEvent(
  context: Context,
  n: number,
  event: {
    seq: number
    atMs: number
    number: number
    attempt: number
    error?: TaskError | null | undefined
    instance?: string | null | undefined
  },
): void {
  const { seq, atMs, number, attempt, error, instance } = event
  const { pending } = context
  pending.events.add(
    n,
    seq,
    atMs,
    number,
    attempt,
    error?.code ?? null,
    error?.message ?? null,
    instance ?? null,
  )
}

/** The message is born in the transaction that it tells of: neither is there without the other. */
function tellOutside(context: Context, row: MoveRow, seq: number, atMs: number): void {
  context
    .sql('INSERT INTO outbox (id, n, task_id, tenant, created_at, due_at) VALUES (?, ?, ?, ?, ?, ?)')
    .run(`msg_${row.id}_${seq}`, row.n, row.id, row.tenant, atMs, atMs)
  context.wakes.outbox()
}

export function keepError(context: Context, n: number, error: TaskError, result?: Uint8Array): void {
  context
    .sql(
      `INSERT INTO results (n, result, error_code, error_message) VALUES (?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET result = excluded.result, error_code = excluded.error_code,
         error_message = excluded.error_message`,
    )
    .run(n, result ?? null, error.code, error.message)
}

export function keepResult(context: Context, n: number, result: Uint8Array, usage: TaskUsage | null): void {
  const { promptTokens = null, completionTokens = null, cachedTokens = null } = usage ?? {}
  context.pending.results.add(n, result, promptTokens, completionTokens, cachedTokens)
}
