import type { ClaimRequest } from '../task-store.ts'
import type { Context } from './context.ts'
import { addEvent } from './move.ts'
import { readFailure, readSteps } from './read-tasks.ts'
import { statusNumbers } from './statuses.ts'
import type { TakenTask } from './stored-task.ts'

const columns = `t.n, t.id, t.tenant, t.endpoint, t.band, t.attempt, t.attempts_max, t.created_at, t.run_at,
  t.deadline_at, t.parent, t.position, t.notify, t.seq, t.bytes, p.metadata, p.payload`

type Candidate = [
  n: number,
  id: string,
  tenant: string,
  endpoint: string,
  band: number,
  attempt: number,
  attemptsMax: number,
  createdAtMs: number,
  runAtMs: number | null,
  deadlineMs: number | null,
  parent: string | null,
  position: number | null,
  notify: number,
  seq: number,
  bytes: number,
  metadata: string | null,
  payload: Uint8Array,
]
type Front = { band: number; ready_at: number }

export function claim(context: Context, request: ClaimRequest): TakenTask[] {
  // Those that were submitted a moment ago may be next.
  context.pending.flush()
  const claimed: TakenTask[] = []
  const take = (band: number, limit: number) => {
    for (const task of takeFirst(context, request, band, limit)) claimed.push(task)
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

function takeFirst(context: Context, request: ClaimRequest, band: number, limit: number): TakenTask[] {
  const rows = context
    .arraysAside(
      `SELECT ${columns} FROM tasks t JOIN payloads p ON p.n = t.n
       WHERE t.model = ? AND t.band = ? AND t.status = 1 ORDER BY t.tag, t.n LIMIT ?`,
    )
    .all(request.model, band, limit) as unknown as Candidate[]
  // Counted before the work: a crash in the call must use up an attempt.
  context
    .sqlAside(
      `UPDATE tasks SET status = 2, attempt = attempt + 1, seq = seq + 1, started_at = ?, lease_until = ?, owner = ?
       WHERE n IN (SELECT value FROM json_each(?))`,
    )
    .run(request.nowMs, request.nowMs + request.leaseMs, request.owner, JSON.stringify(rows.map(([n]) => n)))
  return rows.map((row) => begin(context, row, request))
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

function begin(context: Context, row: Candidate, { model, nowMs }: ClaimRequest): TakenTask {
  const [n, id, tenant, endpoint, band, attempts, attemptsMax, createdAtMs, runAtMs, deadlineMs, ...more] =
    row
  const [parent, position, notify, seq, bytes, metadata, payload] = more
  const { running, queued } = statusNumbers
  const attempt = attempts + 1
  addEvent(context, n, { seq: seq + 1, atMs: nowMs, number: running, attempt })
  context.tallies.move({ tenant, model, parent, bytes }, queued, running)
  context.wakes.changed(id, parent)
  // Errors and steps are of what was before: a task that has only been submitted has none.
  const before = seq === 1 ? nothingBefore : { ...readFailure(context, n), steps: readSteps(context, n) }
  return {
    id,
    tenant,
    endpoint,
    band,
    attempt,
    attemptsMax,
    createdAtMs,
    runAtMs,
    deadlineMs,
    parent,
    position,
    notify: notify === 1,
    metadata,
    error: before.error,
    usage: before.usage,
    payload,
    steps: before.steps,
  }
}

const nothingBefore = { error: null, usage: null, steps: [] }
