import { firstEvent, toBatchResult, type SharedResultColumns } from '../task-columns.ts'
import type { BatchResult, TaskDetail, TaskEvent, TaskFilter, TaskRow, TaskStep } from '../task-store.ts'
import { taskStatuses, type TaskStatus } from '../task-states.ts'
import type { Database, Statement } from './database.ts'
import {
  historyColumns,
  lastEvents,
  taskColumns,
  toEvent,
  toTask,
  type EventColumns,
  type HistoryColumns,
  type TaskColumns,
} from './rows.ts'
import { toRows } from './values.ts'

/** The row and what hangs on it in one statement, so that all is of the same moment. */
const eventsOf = (after: string) => `
  (SELECT json_agg(e ORDER BY e.seq) FROM (
    SELECT seq, at, status, attempt, error_code, error_message, instance FROM events
    WHERE id = t.id AND seq > ${after}) AS e) AS events`

const readDetail: Statement = {
  name: 'read_detail',
  text: `
    SELECT ${taskColumns}, ${historyColumns}, p.payload,
      CASE WHEN t.result_bytes = 0 THEN ''::bytea WHEN t.result_bytes > 0 THEN r.result END AS result,
      (SELECT json_agg(s ORDER BY s.step) FROM (
        SELECT step, attempt, encode(result, 'base64') AS result FROM steps WHERE id = t.id) AS s) AS steps,
      ${eventsOf('0')}
    FROM tasks t JOIN payloads p ON p.id = t.id LEFT JOIN results r ON r.id = t.id
    WHERE t.id = $1 AND t.tenant = $2`,
}

const readEvents: Statement = {
  name: 'read_events',
  text: `SELECT ${taskColumns}, ${historyColumns}, ${eventsOf('$2')} FROM tasks t WHERE t.id = $1`,
}

const readTask: Statement = {
  name: 'read_task',
  text: `SELECT ${taskColumns} FROM tasks t WHERE t.id = $1`,
}

const readResults: Statement = {
  name: 'read_results',
  text: `
    SELECT t.id, t.position, t.status, t.error_code, t.error_message, t.prompt_tokens, t.completion_tokens,
      t.cached_tokens, CASE WHEN t.result_bytes = 0 THEN ''::bytea WHEN t.result_bytes > 0 THEN r.result END AS result
    FROM tasks t LEFT JOIN results r ON r.id = t.id
    WHERE t.parent = $1 AND t.position > $2 AND t.status >= 'succeeded' ORDER BY t.position LIMIT $3`,
}

/** One look into the index for each model, however many tasks wait. */
const readWaitingModels: Statement = {
  name: 'waiting_models',
  text: `
    WITH RECURSIVE models AS (
      (SELECT model FROM tasks WHERE status = 'queued' ORDER BY model LIMIT 1)
      UNION ALL
      SELECT n.model FROM models m, LATERAL (
        SELECT model FROM tasks WHERE status = 'queued' AND model > m.model ORDER BY model LIMIT 1) AS n
    )
    SELECT model FROM models`,
}

type EventRows = { events: EventColumns[] | null }

export async function get(database: Database, tenant: string, id: string): Promise<TaskDetail | null> {
  const [row] = await database.query<
    TaskColumns &
      HistoryColumns &
      EventRows & {
        payload: Buffer
        result: Buffer | null
        steps: (Omit<TaskStep, 'result'> & { result: string })[] | null
      }
  >(readDetail, [id, tenant])
  if (!row) return null
  return {
    task: toTask(row),
    payload: row.payload,
    result: row.result,
    steps: (row.steps ?? []).map(({ step, attempt, result }) => ({
      step,
      attempt,
      result: Buffer.from(result, 'base64'),
    })),
    history: toHistory(row, 0),
  }
}

const toHistory = (row: TaskColumns & HistoryColumns & EventRows, after: number): TaskEvent[] =>
  [firstEvent(row.created_at, row.born), ...(row.events ?? []).map(toEvent), ...lastEvents(row)].filter(
    ({ seq }) => seq > after,
  )

export async function find(database: Database, id: string): Promise<TaskRow | null> {
  const [row] = await database.query<TaskColumns>(readTask, [id])
  return row ? toTask(row) : null
}

export async function eventsAfter(
  database: Database,
  id: string,
  seq: number,
): Promise<{ task: TaskRow; events: TaskEvent[] } | null> {
  const [row] = await database.query<TaskColumns & HistoryColumns & EventRows>(readEvents, [id, seq])
  return row ? { task: toTask(row), events: toHistory(row, seq) } : null
}

export async function waitingModels(database: Database): Promise<string[]> {
  const rows = await database.query<{ model: string }>(readWaitingModels)
  return rows.map(({ model }) => model)
}

export async function results(
  database: Database,
  { parent, afterPosition, limit }: { parent: string; afterPosition: number; limit: number },
): Promise<BatchResult[]> {
  const rows = await database.query<SharedResultColumns & { status: TaskStatus }>(readResults, [
    parent,
    afterPosition,
    limit,
  ])
  return rows.map((row) => toBatchResult(row, row.status))
}

export async function list(database: Database, filter: TaskFilter): Promise<TaskRow[]> {
  const { text, values } = composeList(filter)
  // Named by what is asked for, not by the values: there are few such names.
  const rows = await database.query<TaskColumns>({ name: nameList(filter), text }, values)
  return rows.map(toTask)
}

const nameList = (filter: TaskFilter): string =>
  ['list', ...Object.keys(filter).filter((key) => isGiven(filter[key as keyof TaskFilter]))]
    .sort()
    .map((key) => (key === 'ascending' ? 'up' : key.slice(0, 9)))
    .join('_')

const isGiven = (value: unknown) => value !== undefined && value !== false

/**
 * A page of each state from the index, then the first of all of them: whether the states that were asked for are many
 * or few, no more rows are read than the page has, for each state.
 */
function composeList(filter: TaskFilter): { text: string; values: unknown[] } {
  const values: unknown[] = [filter.tenant, filter.limit]
  const wanted = ['t.tenant = $1']
  const add = (condition: string, value: unknown) => {
    values.push(value)
    wanted.push(condition.replace('?', `$${values.length}`))
  }
  if (filter.bandMin !== undefined) add('t.band >= ?', filter.bandMin)
  if (filter.bandMax !== undefined) add('t.band <= ?', filter.bandMax)
  if (filter.model !== undefined) add('t.model = ?', filter.model)
  if (filter.createdFromMs !== undefined) add('t.created_at >= ?', filter.createdFromMs)
  if (filter.createdToMs !== undefined) add('t.created_at <= ?', filter.createdToMs)
  if (filter.parent !== undefined) add('t.parent = ?', filter.parent)
  if (filter.ownOnly) wanted.push('t.parent IS NULL')
  if (filter.after !== undefined) add(filter.ascending ? 't.id > ?' : 't.id < ?', filter.after)
  if (filter.metadata !== undefined) {
    // An empty filter asks nothing, of a row without metadata as well.
    add(`coalesce(t.metadata, '{}') @> (?::jsonb -> 0)`, toRows([filter.metadata]))
  }
  const order = `ORDER BY t.id ${filter.ascending ? 'ASC' : 'DESC'} LIMIT $2`
  const page = (status: string) =>
    `SELECT ${taskColumns} FROM tasks t WHERE ${wanted.join(' AND ')} AND ${status} ${order}`
  const statuses = filter.statuses ?? taskStatuses
  values.push(
    statuses.filter((status) => status !== 'running'),
    statuses.includes('running'),
  )
  // What runs has an index of its own (see schema.ts), and the planner must be able to tell.
  const text = `
    SELECT t.* FROM (
      SELECT p.* FROM unnest($${values.length - 1}::status[]) AS s (status),
        LATERAL (${page(`t.status = s.status AND t.status <> 'running'`)}) AS p
      UNION ALL
      SELECT r.* FROM (${page(`t.status = 'running' AND $${values.length}::boolean`)}) AS r
    ) AS t ${order}`
  return { text, values }
}
