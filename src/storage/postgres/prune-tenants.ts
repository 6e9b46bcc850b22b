import type { EndedPlace, TenantPrune, TenantPruned } from '../store.ts'
import { execute, type Database, type Statement } from './database.ts'
import { removeTasks, type Removable } from './hand.ts'
import type { Tallies } from './tallies.ts'

/**
 * Along tasks_finished. The last row is where the step has come to; those before it are to be removed. Lines of a batch
 * that is not done stay: its results are still to be written.
 */
const pickTenants: Statement = {
  name: 'pick_tenants',
  text: `
    WITH seen AS MATERIALIZED (
      SELECT t.id, t.finished_at, t.tenant, t.parent FROM tasks t
      WHERE t.status >= 'succeeded' AND (t.finished_at, t.id) > ($1, $2) AND t.finished_at < $3
      ORDER BY t.finished_at, t.id LIMIT $4
    ), gone AS MATERIALIZED (
      SELECT s.id, s.finished_at FROM seen s WHERE (s.tenant = ANY ($5)) = $6
        AND (s.parent IS NULL OR NOT EXISTS (SELECT 1 FROM documents d WHERE d.open AND d.id = s.parent))
      ORDER BY s.finished_at, s.id LIMIT $7
    ), reached AS (SELECT id, finished_at FROM seen ORDER BY finished_at DESC, id DESC LIMIT 1)
    SELECT id, finished_at, 0 AS seen FROM gone
    UNION ALL SELECT id, finished_at, (SELECT count(*) FROM seen)::integer FROM reached
    ORDER BY seen, finished_at, id`,
}

/** What another process removes at this moment, or somebody puts into the line again, is not waited for. */
const lockEnded: Statement = {
  name: 'lock_ended',
  text: `
    SELECT id, tenant, model, parent, status, bytes FROM tasks
    WHERE id = ANY ($1) AND status >= 'succeeded' AND finished_at < $2 FOR UPDATE SKIP LOCKED`,
}

type Picked = { id: string; finished_at: number; seen: number }

export async function pruneTenants(
  database: Database,
  tallies: Tallies,
  prune: TenantPrune,
): Promise<TenantPruned> {
  const { from, beforeMs, tenants, limit, readMax } = prune
  const place = [from.finishedAtMs, from.tie, beforeMs, readMax]
  const picked = await database.query<Picked>(pickTenants, [
    ...place,
    ...[tenants, prune.whose === 'theirs', limit],
  ])
  const reached = picked.pop()
  if (!reached) return { removed: 0, next: null }
  if (picked.length === 0) return { removed: 0, next: reached.seen < readMax ? null : toPlace(reached) }
  const removed = await database.transact(async (client) => {
    const rows = await execute<Removable>(client, lockEnded, [picked.map(({ id }) => id), beforeMs])
    if (rows.length > 0) await removeTasks(client, rows)
    return rows.length
  })
  if (removed > 0) tallies.note()
  if (picked.length === limit) return { removed, next: toPlace(picked.at(-1)!) }
  return { removed, next: reached.seen < readMax ? null : toPlace(reached) }
}

const toPlace = ({ finished_at: finishedAtMs, id }: Picked): EndedPlace => ({ finishedAtMs, tie: id })
