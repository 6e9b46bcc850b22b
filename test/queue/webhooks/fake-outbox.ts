import { StoreUnavailable, type OutboxMessage, type Store, type Wake } from '../../../src/storage/store.ts'
import type { TaskDetail, TaskRow } from '../../../src/storage/task-store.ts'

type Row = OutboxMessage & { dueMs: number }

/** The outbox and the tasks of a store, in memory. What it was told stays, as on a disk, for the next sender. */
export class FakeOutbox {
  readonly rows = new Map<string, Row>()
  readonly details = new Map<string, TaskDetail>()
  /** Every settlement that was accepted. */
  readonly settled: { id: string; attempt: number; retryAtMs: number | null }[] = []
  failing = false
  readonly #listeners = new Set<(wake: Wake) => void>()
  readonly #waiters: { holds: () => boolean; resolve: () => void }[] = []

  /** A task that has ended, and the message about it. */
  add(id: string, url: string, more: Partial<TaskRow> = {}): void {
    const task: TaskRow = {
      id, tenant: 'acme', endpoint: '/v1/completions', model: 'm', band: 50, status: 'succeeded', attempt: 1,
      attemptsMax: 5, createdAtMs: 1_000, runAtMs: null, deadlineMs: null, startedAtMs: 2_000, finishedAtMs: 3_500,
      cancelRequested: false, parent: null, position: null, notify: true, metadata: { run: '7' }, error: null,
      usage: { promptTokens: 5, completionTokens: 3, cachedTokens: 0 }, ...more,
    } // prettier-ignore
    const work = { endpoint: '/v1/completions', body: { prompt: 'SECRET-PROMPT' } }
    const payload = Buffer.from(JSON.stringify({ work, webhook: { url } }))
    const result = Buffer.from('SECRET-ANSWER')
    this.details.set(id, { task, payload, result, steps: [], history: [] })
    const messageId = `msg_${id}`
    this.rows.set(messageId, { id: messageId, taskId: id, tenant: 'acme', createdAtMs: 3_500, attempt: 0, dueMs: 0 }) // prettier-ignore
    for (const listener of this.#listeners) listener({ kind: 'outbox' })
  }

  until(holds: () => boolean): Promise<void> {
    if (holds()) return Promise.resolve()
    return new Promise((resolve) => this.#waiters.push({ holds, resolve }))
  }

  get store(): Pick<Store, 'outbox' | 'tasks' | 'onWake'> {
    return {
      tasks: { get: (_tenant: string, id: string) => Promise.resolve(this.details.get(id) ?? null) } as Store['tasks'],
      outbox: {
        claim: (nowMs, leaseMs, limit) => this.#claim(nowMs, leaseMs, limit),
        settle: (id, attempt, retryAtMs) => Promise.resolve(this.#settle(id, attempt, retryAtMs)),
      },
      onWake: (listener) => {
        this.#listeners.add(listener)
        return () => this.#listeners.delete(listener)
      },
    } // prettier-ignore
  }

  async #claim(nowMs: number, leaseMs: number, limit: number): Promise<OutboxMessage[]> {
    await Promise.resolve()
    if (this.failing) throw new StoreUnavailable('the disk is full')
    const due = [...this.rows.values()]
      .filter(({ dueMs }) => dueMs <= nowMs)
      .sort((a, b) => a.dueMs - b.dueMs)
    return due.slice(0, limit).map((row) => {
      row.attempt += 1
      row.dueMs = nowMs + leaseMs
      const { dueMs: _, ...message } = row
      return message
    })
  }

  #settle(id: string, attempt: number, retryAtMs: number | null): boolean {
    const row = this.rows.get(id)
    if (row?.attempt !== attempt) return false
    if (retryAtMs === null) this.rows.delete(id)
    else row.dueMs = retryAtMs
    this.settled.push({ id, attempt, retryAtMs })
    for (const waiter of this.#waiters.splice(0)) {
      if (waiter.holds()) waiter.resolve()
      else this.#waiters.push(waiter)
    }
    return true
  }
}
