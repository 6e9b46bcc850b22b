import type { ClientBase } from 'pg'
import { execute, type Statement } from './database.ts'
import { toRows } from './values.ts'

/** `tag`: one that comes back to the line keeps its place; null or absent for one that gets a new one. */
type LaneTask = { model: string; band: number; tenant: string; cost: number; tag?: number | null }

type LaneRow = {
  model: string
  band: number
  tenant: string
  finish: number
  first: number | null
  finish_max: number
}

/**
 * Locks the lanes, in one order everywhere so that no two transactions wait for each other, and tells where each lane
 * and its line stand. Lanes that are not there are made.
 */
const lock: Statement = {
  name: 'lock_lanes',
  text: `
    WITH wanted AS MATERIALIZED (
      SELECT * FROM json_to_recordset($1::json) AS w (model text, band smallint, tenant text)
    ), locked AS (
      INSERT INTO lanes AS l (model, band, tenant, finish)
      SELECT model, band, tenant, 0 FROM wanted ORDER BY model COLLATE "C", band, tenant COLLATE "C"
      ON CONFLICT (model, band, tenant) DO UPDATE SET finish = l.finish RETURNING l.*
    ), lines AS MATERIALIZED (
      SELECT w.model, w.band,
        (SELECT t.tag FROM tasks t WHERE t.status = 'queued' AND t.model = w.model AND t.band = w.band
          ORDER BY t.tag LIMIT 1) AS first,
        coalesce((SELECT max(l.finish) FROM lanes l WHERE l.model = w.model AND l.band = w.band), 0) AS finish_max
      FROM (SELECT DISTINCT model, band FROM wanted) AS w
    )
    SELECT k.model, k.band, k.tenant, k.finish, s.first, s.finish_max
    FROM locked k JOIN lines s ON s.model = k.model AND s.band = k.band`,
}

/** For a statement that writes the new ends of lanes, given as JSON. */
export const updateLanes = (parameter: string) => `
  UPDATE lanes l SET finish = w.finish
  FROM json_to_recordset(${parameter}::json) AS w (model text, band smallint, tenant text, finish double precision)
  WHERE l.model = w.model AND l.band = w.band AND l.tenant = w.tenant`

const keyOf = (lane: { model: string; band: number; tenant: string }) =>
  `${lane.band}\n${lane.tenant}\n${lane.model}`

/**
 * The tags of tasks that join their lines now, in their order, and the lanes to be written with them: start-time fair
 * queueing (Goyal, Vin and Cheng 1996). A task starts where its tenant's last one finished, or where the line stands,
 * whichever is later; where nothing waits, the line stands at the largest finish tag.
 */
export async function takeTags(
  client: ClientBase,
  tasks: readonly LaneTask[],
): Promise<{ tags: number[]; lanes: string }> {
  if (tasks.length === 0) return { tags: [], lanes: '[]' }
  const wanted = new Map(
    tasks.map(({ model, band, tenant }) => [keyOf({ model, band, tenant }), { model, band, tenant }]),
  )
  const rows = await execute<LaneRow>(client, lock, [toRows([...wanted.values()])])
  const lanes = new Map(rows.map((row) => [keyOf(row), row]))
  const lines = new Map(
    rows.map((row) => [`${row.band}\n${row.model}`, { first: row.first, finishMax: row.finish_max }]),
  )
  const tags = tasks.map((task) => {
    const lane = lanes.get(keyOf(task))!
    const line = lines.get(`${task.band}\n${task.model}`)!
    // One that comes back with its tag moves the line to where it stands, for those behind it too.
    if (typeof task.tag === 'number') {
      line.first = Math.min(line.first ?? task.tag, task.tag)
      return task.tag
    }
    const tag = Math.max(lane.finish, line.first ?? line.finishMax)
    lane.finish = tag + task.cost
    line.finishMax = Math.max(line.finishMax, lane.finish)
    line.first ??= tag
    return tag
  })
  return {
    tags,
    lanes: toRows(rows.map(({ model, band, tenant, finish }) => ({ model, band, tenant, finish }))),
  }
}
