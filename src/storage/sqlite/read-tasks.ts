import { strict as assert } from 'node:assert'
import type { SQLInputValue } from 'node:sqlite'
import {
  firstEvent,
  toBatchResult,
  toError,
  toUsage,
  type ErrorColumns,
  type SharedResultColumns,
  type UsageColumns,
} from '../task-columns.ts'
import type {
  BatchResult,
  TaskDetail,
  TaskError,
  TaskEvent,
  TaskFilter,
  TaskRow,
  TaskStep,
  TaskUsage,
} from '../task-store.ts'
import { taskStatuses, type TaskStatus } from '../task-states.ts'
import type { Context } from './context.ts'
import { taskColumns, taskTables, toEvent, toTask, type EventColumns, type FullRow } from './rows.ts'
import { statusNumbers, toStatus } from './statuses.ts'
import { parentName } from './tallies.ts'

function readRow(context: Context, n: number): FullRow {
  const row = context.sql(`SELECT ${taskColumns} FROM ${taskTables} WHERE t.n = ?`).get(n) as
    FullRow | undefined
  assert(row, 'a task that something points to is not there')
  return row
}

export const readTask = (context: Context, n: number): TaskRow => toTask(readRow(context, n))

const findRow = (context: Context, id: string): FullRow | undefined =>
  context.sql(`SELECT ${taskColumns} FROM ${taskTables} WHERE t.id = ?`).get(id) as FullRow | undefined

export function find(context: Context, id: string): TaskRow | null {
  const row = findRow(context, id)
  return row ? toTask(row) : null
}

export function get(context: Context, tenant: string, id: string): TaskDetail | null {
  const row = findRow(context, id)
  if (!row || row.tenant !== tenant) return null
  const { payload } = context.sql('SELECT payload FROM payloads WHERE n = ?').get(row.n) as {
    payload: Uint8Array
  }
  const kept = context.sql('SELECT result FROM results WHERE n = ?').get(row.n) as
    { result: Uint8Array | null } | undefined
  return {
    task: toTask(row),
    payload,
    result: kept?.result ?? null,
    steps: readSteps(context, row.n),
    history: readEvents(context, row, 0),
  }
}

/** What an attempt before has left of it. */
export function readFailure(
  context: Context,
  n: number,
): { error: TaskError | null; usage: TaskUsage | null } {
  const row = context
    .sql(
      `SELECT error_code, error_message, prompt_tokens, completion_tokens, cached_tokens FROM results WHERE n = ?`,
    )
    .get(n) as (ErrorColumns & UsageColumns) | undefined
  return row ? { error: toError(row), usage: toUsage(row) } : { error: null, usage: null }
}

export const readSteps = (context: Context, n: number): TaskStep[] =>
  context
    .sql('SELECT step, attempt, result FROM steps WHERE n = ? ORDER BY step')
    .all(n)
    .map((row) => ({ ...row }) as unknown as TaskStep)

function readEvents(context: Context, row: FullRow, after: number): TaskEvent[] {
  const rows = context
    .sql(
      `SELECT seq, at, status, attempt, error_code, error_message, instance FROM events
       WHERE n = ? AND seq > ? ORDER BY seq`,
    )
    .all(row.n, after) as unknown as EventColumns[]
  const events = rows.map(toEvent)
  return after < 1 ? [firstEvent(row.created_at, toStatus(row.born)), ...events] : events
}

export function eventsAfter(
  context: Context,
  id: string,
  seq: number,
): { task: TaskRow; events: TaskEvent[] } | null {
  const row = findRow(context, id)
  return row ? { task: toTask(row), events: readEvents(context, row, seq) } : null
}

export function list(context: Context, filter: TaskFilter): TaskRow[] {
  const wanted: string[] = ['t.tenant = ?']
  const values: SQLInputValue[] = [filter.tenant]
  const add = (condition: string, ...more: SQLInputValue[]) => {
    wanted.push(condition)
    values.push(...more)
  }
  const direction = filter.ascending ? 'ASC' : 'DESC'
  let onlyFailed = false
  // One value as JSON keeps the text of the statement the same however many states are asked for.
  if (filter.statuses) {
    const numbers = JSON.stringify(filter.statuses.map((status) => statusNumbers[status]))
    add('t.status IN (SELECT value FROM json_each(?))', numbers)
    // Few among many are what people look for: they have an index of their own.
    onlyFailed = filter.statuses.length > 0 && filter.statuses.every((status) => statusNumbers[status] > 3)
    if (onlyFailed) add('t.status > 3')
  }
  if (filter.bandMin !== undefined) add('t.band >= ?', filter.bandMin)
  if (filter.bandMax !== undefined) add('t.band <= ?', filter.bandMax)
  if (filter.model !== undefined) add('t.model = ?', filter.model)
  if (filter.createdFromMs !== undefined) add('t.created_at >= ?', filter.createdFromMs)
  if (filter.createdToMs !== undefined) add('t.created_at <= ?', filter.createdToMs)
  if (filter.parent !== undefined) add('t.parent = ?', filter.parent)
  if (filter.ownOnly) add('t.parent IS NULL')
  if (filter.after !== undefined) add(filter.ascending ? 't.id > ?' : 't.id < ?', filter.after)
  if (filter.metadata && Object.keys(filter.metadata).length > 0) {
    add(
      `NOT EXISTS (SELECT 1 FROM json_each(?) w WHERE NOT EXISTS (
         SELECT 1 FROM json_each(p.metadata) h WHERE h.key = w.key AND h.value = w.value))`,
      JSON.stringify(filter.metadata),
    )
  }
  const tables = onlyFailed ? taskTables.replace('tasks t', 'tasks t INDEXED BY tasks_failed') : taskTables
  const text = `SELECT ${taskColumns} FROM ${tables} WHERE ${wanted.join(' AND ')} ORDER BY t.id ${direction} LIMIT ?`
  const rows = context.sql(text).all(...values, filter.limit) as unknown as FullRow[]
  return rows.map(toTask)
}

export function count(context: Context, tenant: string, parent?: string): Record<TaskStatus, number> {
  const [kind, name] = parent === undefined ? ['tenant', tenant] : ['parent', parentName(parent, tenant)]
  return Object.fromEntries(
    taskStatuses.map((status, number) => [status, context.tallies.of(kind, name, number).tasks]),
  ) as Record<TaskStatus, number>
}

export function depths(context: Context): { model: string; status: TaskStatus; tasks: number }[] {
  // What the transaction has not written yet is in memory.
  context.tallies.flush()
  const rows = context
    .sql(`SELECT name, status, tasks FROM tallies WHERE kind = 'model' ORDER BY name, status`)
    .all() as { name: string; status: number; tasks: number }[]
  return rows.map(({ name, status, tasks }) => ({ model: name, status: toStatus(status), tasks }))
}

export function results(context: Context, parent: string, after: number, limit: number): BatchResult[] {
  const rows = context
    .sql(
      `SELECT t.id, t.position, t.status, r.result, r.error_code, r.error_message, r.prompt_tokens,
         r.completion_tokens, r.cached_tokens
       FROM tasks t LEFT JOIN results r ON r.n = t.n
       WHERE t.parent = ? AND t.position > ? AND t.status > 2 ORDER BY t.position LIMIT ?`,
    )
    .all(parent, after, limit) as unknown as (SharedResultColumns & { status: number })[]
  return rows.map((row) => toBatchResult(row, toStatus(row.status)))
}

export function waitingModels(context: Context): string[] {
  const models: string[] = []
  const next = context.sql('SELECT model FROM tasks WHERE status = 1 AND model > ? ORDER BY model LIMIT 1')
  let model = ''
  for (;;) {
    const row = next.get(model) as { model: string } | undefined
    if (!row) return models
    model = row.model
    models.push(model)
  }
}

export function nextDueMs(context: Context): number | null {
  const { due } = context
    .sql(
      `SELECT min(at) AS due FROM (
         SELECT min(run_at) AS at FROM tasks WHERE status = 0
         UNION ALL
         SELECT min(deadline_at) FROM tasks WHERE deadline_at IS NOT NULL AND status < 2)`,
    )
    .get() as { due: number | null }
  return due
}
