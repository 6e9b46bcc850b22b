import type { ClientBase } from 'pg'
import { randomBytes } from 'node:crypto'
import type { ClaimedTask, ClaimRequest, TaskStep } from '../task-store.ts'
import { execute, type Database, type Statement } from './database.ts'
import { taskColumns, toTask, type TaskColumns } from './rows.ts'
import { insertChanges } from './tallies.ts'

type ClaimedColumns = TaskColumns & { payload: Buffer; has_steps: boolean }

/** The lock is taken in a sub-select of its own: with it, LIMIT counts only rows that nobody else is taking. */
const makeClaim = (name: string, where: string): Statement => ({
  name,
  text: `
    WITH picked AS MATERIALIZED (
      SELECT id FROM tasks WHERE status = 'queued' AND model = $1 ${where}
      ORDER BY band, tag, id LIMIT $2 FOR UPDATE SKIP LOCKED
    ), claimed AS (
      UPDATE tasks t
      SET status = 'running', attempt = t.attempt + 1, seq = t.seq + 1, started_at = $3, lease_until = $4, owner = $5
      FROM picked p WHERE t.id = p.id RETURNING t.*
    ), counted AS MATERIALIZED (
      SELECT tenant, model, parent, count(*) AS tasks, sum(bytes)::bigint AS bytes FROM claimed
      GROUP BY tenant, model, parent
    ), changed AS (${insertChanges(`
        SELECT tenant, model, parent, 'queued'::status, -tasks, -bytes FROM counted
        UNION ALL SELECT tenant, model, parent, 'running', tasks, bytes FROM counted`)}
    )
    SELECT ${taskColumns}, t.has_steps, p.payload FROM claimed t JOIN payloads p ON p.id = t.id
    ORDER BY t.band, t.tag, t.id`,
})

const claimFirst = makeClaim('claim_first', '')
const claimBand = makeClaim('claim_band', 'AND band = $6')

const claimedBefore: Statement = {
  name: 'claimed_before',
  text: `
    SELECT ${taskColumns}, t.has_steps, p.payload FROM tasks t JOIN payloads p ON p.id = t.id
    WHERE t.status = 'running' AND t.owner = $1 ORDER BY t.band, t.tag, t.id`,
}

const stepsOf: Statement = {
  name: 'steps_of',
  text: 'SELECT id, step, attempt, result FROM steps WHERE id = ANY ($1) ORDER BY id, step',
}

/**
 * The less urgent bands whose first task has waited too long, and how long their first ones have: a look into the
 * index for each band that is there, however many tasks wait.
 */
const agedFronts: Statement = {
  name: 'aged_fronts',
  text: `
    WITH RECURSIVE fronts AS (
      (SELECT band, ready_at FROM tasks WHERE status = 'queued' AND model = $1 ORDER BY band, tag, id LIMIT 1)
      UNION ALL
      SELECT n.band, n.ready_at FROM fronts f, LATERAL (
        SELECT band, ready_at FROM tasks WHERE status = 'queued' AND model = $1 AND band > f.band
        ORDER BY band, tag, id LIMIT 1) AS n
    )
    SELECT a.band, w.ready_at FROM fronts a, LATERAL (
      SELECT ready_at, tag, id FROM tasks WHERE status = 'queued' AND model = $1 AND band = a.band
      ORDER BY tag, id LIMIT $3) AS w
    WHERE a.ready_at <= $2 AND a.band > (SELECT min(band) FROM fronts) ORDER BY a.band, w.tag, w.id`,
}

export async function claim(database: Database, request: ClaimRequest): Promise<ClaimedTask[]> {
  if (request.limit <= 0) return []
  // The owner of these leases alone: should the answer to the claim be lost, it finds what was claimed.
  const owner = `${request.owner}#${randomBytes(6).toString('hex')}`
  const turns = Math.min(request.agedLimit, request.limit)
  const aged = turns > 0 ? chooseAged(await readAged(database, request, turns), turns, request) : []
  const rows = await (aged.length === 0
    ? database.retry(async (client, again) => {
        const before = again ? await execute<ClaimedColumns>(client, claimedBefore, [owner]) : []
        return before.length > 0 ? before : take(client, request, { owner, limit: request.limit })
      })
    : database.transact(async (client, again) => {
        const before = again ? await execute<ClaimedColumns>(client, claimedBefore, [owner]) : []
        return before.length > 0 ? before : takeAged(client, request, { owner, aged })
      }))
  return addSteps(database, rows)
}

function take(
  client: ClientBase,
  { model, nowMs, leaseMs }: ClaimRequest,
  { owner, limit, band }: { owner: string; limit: number; band?: number },
): Promise<ClaimedColumns[]> {
  const values = [model, limit, nowMs, nowMs + leaseMs, owner]
  return band === undefined
    ? execute(client, claimFirst, values)
    : execute(client, claimBand, [...values, band])
}

async function takeAged(
  client: ClientBase,
  request: ClaimRequest,
  { owner, aged }: { owner: string; aged: readonly number[] },
): Promise<ClaimedColumns[]> {
  const lines = new Map<number, ClaimedColumns[]>()
  for (const band of new Set(aged)) {
    const limit = aged.filter((other) => other === band).length
    lines.set(band, await take(client, request, { owner, limit, band }))
  }
  const rows = aged.flatMap((band) => lines.get(band)?.shift() ?? [])
  const limit = request.limit - rows.length
  if (limit > 0) rows.push(...(await take(client, request, { owner, limit })))
  return rows
}

type Front = { band: number; ready_at: number }

const readAged = (database: Database, request: ClaimRequest, turns: number): Promise<Front[]> =>
  database.query<Front>(agedFronts, [request.model, request.nowMs - request.ageingMs, turns])

/** Whose turn it is, one entry a turn: the band whose first task has waited longest, then again. */
export function chooseAged(
  waiting: readonly Front[],
  turns: number,
  { nowMs, ageingMs }: Pick<ClaimRequest, 'nowMs' | 'ageingMs'>,
): number[] {
  const lines = new Map<number, number[]>()
  for (const { band, ready_at: readyAtMs } of waiting)
    lines.set(band, [...(lines.get(band) ?? []), readyAtMs])
  const chosen: number[] = []
  while (chosen.length < turns) {
    const [first] = [...lines]
      .filter(([, times]) => times[0] !== undefined && times[0] <= nowMs - ageingMs)
      .sort(([, one], [, other]) => one[0]! - other[0]!)
    if (!first) break
    chosen.push(first[0])
    first[1].shift()
  }
  return chosen
}

async function addSteps(database: Database, rows: readonly ClaimedColumns[]): Promise<ClaimedTask[]> {
  const ids = rows.filter((row) => row.has_steps).map(({ id }) => id)
  const steps = new Map<string, TaskStep[]>(ids.map((id) => [id, []]))
  if (ids.length > 0) {
    for (const { id, ...step } of await database.query<TaskStep & { id: string }>(stepsOf, [ids])) {
      steps.get(id)?.push(step)
    }
  }
  return rows.map((row) => ({ task: toTask(row), payload: row.payload, steps: steps.get(row.id) ?? [] }))
}
