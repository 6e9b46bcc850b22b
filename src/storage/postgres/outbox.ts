import type { OutboxMessage, OutboxStore } from '../store.ts'
import type { Database, Statement } from './database.ts'

const claim: Statement = {
  name: 'claim_messages',
  text: `
    WITH due AS MATERIALIZED (
      SELECT id FROM outbox WHERE due_at <= $1 ORDER BY due_at, id LIMIT $3 FOR UPDATE SKIP LOCKED
    ), claimed AS (
      UPDATE outbox o SET attempt = o.attempt + 1, due_at = $1 + $2 FROM due d WHERE o.id = d.id RETURNING o.*
    )
    SELECT id, task_id AS "taskId", tenant, created_at AS "createdAtMs", attempt FROM claimed ORDER BY created_at, id`,
}

const remove: Statement = {
  name: 'remove_message',
  text: 'DELETE FROM outbox WHERE id = $1 AND attempt = $2 RETURNING id',
}

const postpone: Statement = {
  name: 'postpone_message',
  text: 'UPDATE outbox SET due_at = $3 WHERE id = $1 AND attempt = $2 RETURNING id',
}

export class PostgresOutbox implements OutboxStore {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  /** A claim whose answer is lost is not repeated: its messages come again when their lease is over. */
  claim(nowMs: number, leaseMs: number, limit: number): Promise<OutboxMessage[]> {
    return this.#database.queryOnce(claim, [nowMs, leaseMs, limit])
  }

  async settle(id: string, attempt: number, retryAtMs: number | null): Promise<boolean> {
    const rows =
      retryAtMs === null
        ? await this.#database.query(remove, [id, attempt])
        : await this.#database.query(postpone, [id, attempt, retryAtMs])
    return rows.length > 0
  }
}
