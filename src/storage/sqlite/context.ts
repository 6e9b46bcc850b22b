import type { StatementSync } from 'node:sqlite'
import type { Wake } from '../store.ts'
import type { Database } from './database.ts'
import { Lines } from './lines.ts'
import { Pending } from './pending.ts'
import { Tallies } from './tallies.ts'

/** What the operations work with: one connection, what is kept in memory beside it, and what is told after the commit. */
export class Context {
  readonly database: Database
  readonly tallies: Tallies
  readonly lines: Lines
  readonly pending: Pending
  readonly wakes = new WakeList()

  constructor(database: Database) {
    this.database = database
    this.tallies = new Tallies(database)
    this.lines = new Lines(database)
    this.pending = new Pending(database)
  }

  sql(text: string): StatementSync {
    this.pending.flush()
    return this.database.sql(text)
  }

  /** For a statement that none of the pending rows concerns, where many statements would each write a few of them. */
  sqlAside(text: string): StatementSync {
    return this.database.sql(text)
  }

  /** As `sqlAside`; rows come as arrays in the order of their columns. */
  arraysAside(text: string): StatementSync {
    return this.database.arrays(text)
  }

  /** Everything that `run` writes, or nothing of it. */
  transact<T>(run: () => T): T {
    this.database.begin()
    try {
      const result = run()
      this.pending.flush()
      this.tallies.flush()
      this.lines.flush()
      this.database.commit()
      return result
    } catch (error) {
      this.pending.forget()
      this.tallies.forget()
      this.lines.forget()
      this.wakes.clear()
      this.database.rollback()
      throw error
    }
  }
}

/** Hints for listeners, each once. */
class WakeList {
  #models = new Set<string>()
  #wakes: Wake[] = []
  #outbox = false
  #access = false

  ready(model: string): void {
    this.#models.add(model)
  }

  cancel(id: string): void {
    this.#wakes.push({ kind: 'cancel', id })
  }

  changed(id: string, parent: string | null): void {
    this.#wakes.push({ kind: 'changed', id, parent })
  }

  outbox(): void {
    this.#outbox = true
  }

  access(): void {
    this.#access = true
  }

  clear(): void {
    this.take()
  }

  take(): Wake[] {
    const wakes = this.#wakes
    for (const model of this.#models) wakes.push({ kind: 'ready', model })
    if (this.#outbox) wakes.push({ kind: 'outbox' })
    if (this.#access) wakes.push({ kind: 'access' })
    this.#wakes = []
    this.#models.clear()
    this.#outbox = false
    this.#access = false
    return wakes
  }
}
