import type { OutboxMessage } from '../store.ts'
import type { Context } from './context.ts'

export function claimMessages(
  context: Context,
  nowMs: number,
  leaseMs: number,
  limit: number,
): OutboxMessage[] {
  const due = context
    .sql('SELECT id FROM outbox WHERE due_at <= ? ORDER BY due_at, id LIMIT ?')
    .all(nowMs, limit) as { id: string }[]
  return due.map(({ id }) => {
    const row = context
      .sql(
        `UPDATE outbox SET attempt = attempt + 1, due_at = ?, leased = 1 WHERE id = ?
         RETURNING id, task_id AS taskId, tenant, created_at AS createdAtMs, attempt`,
      )
      .get(nowMs + leaseMs, id)
    return { ...row } as unknown as OutboxMessage
  })
}

export function settleMessage(
  context: Context,
  id: string,
  attempt: number,
  retryAtMs: number | null,
): boolean {
  const { changes } =
    retryAtMs === null
      ? context.sql('DELETE FROM outbox WHERE id = ? AND attempt = ?').run(id, attempt)
      : context
          .sql('UPDATE outbox SET due_at = ?, leased = 0 WHERE id = ? AND attempt = ?')
          .run(retryAtMs, id, attempt)
  return Number(changes) === 1
}
