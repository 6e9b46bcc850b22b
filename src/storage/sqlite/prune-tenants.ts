import type { TenantPrune, TenantPruned } from '../store.ts'
import type { Context } from './context.ts'
import { removeRow } from './hand.ts'
import type { MoveRow } from './move.ts'

type Ended = Pick<MoveRow, 'n' | 'tenant' | 'model' | 'parent' | 'bytes' | 'status'> & { finished_at: number }

/** Along tasks_finished, whose entries of one moment lie by `n`. */
const endedFrom = `SELECT n, tenant, model, parent, bytes, status, finished_at FROM tasks
  WHERE status > 2 AND (finished_at, n) > (?, ?) AND finished_at < ? ORDER BY finished_at, n LIMIT ?`

export function pruneTenants(context: Context, prune: TenantPrune): TenantPruned {
  const { from, beforeMs, limit, readMax } = prune
  const rows = context
    .sql(endedFrom)
    .all(from.finishedAtMs, Number(from.tie), beforeMs, readMax) as unknown as Ended[]
  const named = new Set(prune.tenants)
  let removed = 0
  let last: Ended | undefined
  for (const row of rows) {
    if (removed === limit) break
    last = row
    if (named.has(row.tenant) !== (prune.whose === 'theirs')) continue
    if (row.parent !== null && isOpen(context, row.parent)) continue
    removeRow(context, row)
    removed += 1
  }
  const isEnd = rows.length < readMax && last === rows.at(-1)
  return { removed, next: isEnd || !last ? null : { finishedAtMs: last.finished_at, tie: String(last.n) } }
}

/** Lines of a batch that is not done stay: its results are still to be written. */
const isOpen = (context: Context, parent: string): boolean =>
  context.sql('SELECT 1 FROM documents WHERE open = 1 AND id = ?').get(parent) !== undefined
