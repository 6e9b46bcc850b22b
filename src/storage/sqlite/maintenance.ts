import type { Retention } from '../store.ts'
import type { Context } from './context.ts'
import { readVersion } from './database.ts'
import { removeRow } from './hand.ts'
import type { MoveRow } from './move.ts'
import { pruneUsage } from './usage.ts'

type Ended = Pick<MoveRow, 'n' | 'tenant' | 'model' | 'parent' | 'bytes' | 'status'>

/** Lines of a batch that is not done stay: its results are still to be written. */
const endedTasks = `SELECT n, tenant, model, parent, bytes, status FROM tasks WHERE status > 2 AND finished_at < ?
  AND (parent IS NULL OR NOT EXISTS (SELECT 1 FROM documents WHERE open = 1 AND id = parent))
  ORDER BY finished_at, n LIMIT ?`

export function prune(context: Context, retention: Retention, nowMs: number, limit: number): number {
  let removed = 0
  const removeEnded = (beforeMs: number, limit: number) => {
    const rows = context.sql(endedTasks).all(beforeMs, limit) as unknown as Ended[]
    for (const row of rows) removeRow(context, row)
    removed += rows.length
  }
  removeEnded(retention.finishedBeforeMs, limit)
  const tooMany = countEnded(context) - retention.finishedMax
  if (tooMany > 0) removeEnded(Number.MAX_SAFE_INTEGER, Math.min(tooMany, limit - removed))
  removed += removeDocuments(context, nowMs, limit - removed)
  removed += pruneUsage(context, nowMs, limit - removed)
  context.lines.flush()
  context.lines.prune(limit)
  return removed
}

function countEnded(context: Context): number {
  let tasks = 0
  for (const status of [3, 4, 5, 6]) tasks += context.tallies.of('all', '', status).tasks
  return tasks
}

function removeDocuments(context: Context, nowMs: number, limit: number): number {
  const rows = context
    .sql(
      `SELECT kind, id FROM documents WHERE expires_at IS NOT NULL AND expires_at <= ?
       ORDER BY expires_at LIMIT ?`,
    )
    .all(nowMs, limit) as { kind: string; id: string }[]
  for (const { kind, id } of rows) {
    context.sql('DELETE FROM documents WHERE kind = ? AND id = ?').run(kind, id)
    context.sql('DELETE FROM blobs WHERE id = ?').run(id)
  }
  return rows.length
}

export function describe(context: Context): { driver: string; schemaVersion: number; bytes: number } {
  const { bytes } = context
    .sql('SELECT page_count * page_size AS bytes FROM pragma_page_count, pragma_page_size')
    .get() as { bytes: number }
  return { driver: 'sqlite', schemaVersion: readVersion(context.database), bytes }
}
