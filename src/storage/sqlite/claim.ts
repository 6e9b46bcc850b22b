import type { ClaimedTask, ClaimRequest } from '../store.ts'
import type { Context } from './context.ts'
import { addEvent } from './move.ts'
import { readSteps } from './read-tasks.ts'
import { taskColumns, taskTables, toTask, type FullRow } from './rows.ts'
import { statusNumbers } from './statuses.ts'

type Candidate = FullRow & { payload: Uint8Array; bytes: number; ready_at: number }
type Front = { band: number; ready_at: number }

export function claim(context: Context, request: ClaimRequest): ClaimedTask[] {
  const claimed: ClaimedTask[] = []
  const take = (band: number, limit: number) => {
    const rows = context
      .sql(
        `SELECT ${taskColumns}, t.bytes, t.ready_at, p.payload FROM ${taskTables}
         WHERE t.model = ? AND t.band = ? AND t.status = 1 ORDER BY t.tag, t.n LIMIT ?`,
      )
      .all(request.model, band, limit) as unknown as Candidate[]
    for (const row of rows) claimed.push(begin(context, row, request))
  }
  const fronts = readFronts(context, request.model)
  for (const band of chooseAged(context, fronts.slice(1), request)) take(band, 1)
  for (const { band } of fronts) {
    if (claimed.length >= request.limit) break
    take(band, request.limit - claimed.length)
  }
  if (claimed.length > 0) context.lines.forgetFirsts()
  return claimed
}

/** The first task of each band in which one waits, the most urgent band first: one look into the index for each. */
function readFronts(context: Context, model: string): Front[] {
  const next = context.sql(
    'SELECT band, ready_at FROM tasks WHERE model = ? AND status = 1 AND band > ? ORDER BY band, tag, n LIMIT 1',
  )
  const fronts: Front[] = []
  let band = -1
  for (;;) {
    const front = next.get(model, band) as Front | undefined
    if (!front) return fronts
    fronts.push(front)
    band = front.band
  }
}

/** The bands whose turns are their own because they have waited for long: one entry a turn, the longest wait first. */
function chooseAged(context: Context, fronts: readonly Front[], request: ClaimRequest): number[] {
  const turns = Math.min(request.agedLimit, request.limit)
  const agedBeforeMs = request.nowMs - request.ageingMs
  const aged = fronts.filter((front) => front.ready_at <= agedBeforeMs)
  if (turns <= 0 || aged.length === 0) return []
  const next = context.sql(
    `SELECT ready_at FROM tasks WHERE model = ? AND band = ? AND status = 1 ORDER BY tag, n LIMIT 1 OFFSET ?`,
  )
  const chosen: number[] = []
  const taken = new Map<number, number>()
  while (chosen.length < turns && aged.length > 0) {
    aged.sort((one, other) => one.ready_at - other.ready_at || one.band - other.band)
    const front = aged[0] as Front
    chosen.push(front.band)
    taken.set(front.band, (taken.get(front.band) ?? 0) + 1)
    const row = next.get(request.model, front.band, taken.get(front.band) as number) as
      { ready_at: number } | undefined
    if (row && row.ready_at <= agedBeforeMs) front.ready_at = row.ready_at
    else aged.shift()
  }
  return chosen
}

function begin(context: Context, row: Candidate, request: ClaimRequest): ClaimedTask {
  const { owner, nowMs, leaseMs } = request
  // Counted before the work: a crash in the call must use up an attempt.
  context
    .sql(
      `UPDATE tasks SET status = 2, attempt = attempt + 1, seq = seq + 1, started_at = ?, lease_until = ?, owner = ?
       WHERE n = ?`,
    )
    .run(nowMs, nowMs + leaseMs, owner, row.n)
  const { running, queued } = statusNumbers
  const attempt = row.attempt + 1
  addEvent(context, row.n, { seq: row.seq + 1, atMs: nowMs, number: running, attempt })
  context.tallies.add(row, queued, -1)
  context.tallies.add(row, running, 1)
  context.wakes.changed(row.id, row.parent)
  const task = toTask({ ...row, status: running, attempt, started_at: nowMs, cancel_requested: 0 })
  // Steps are of earlier attempts: the first has none.
  return { task, payload: row.payload, steps: attempt === 1 ? [] : readSteps(context, row.n) }
}
