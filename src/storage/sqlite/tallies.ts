import type { Database } from './database.ts'

export type Tally = { tasks: number; bytes: number }
type Entry = Tally & { kind: string; name: string; status: number }

const entriesMax = 50_000
const liveMax = 2

/**
 * How many tasks there are, and bytes of them, by tenant, model, batch and in all, for each state. Kept in memory and
 * written once a transaction: a count would walk over all the tasks.
 */
export class Tallies {
  readonly #database: Database
  readonly #entries = new Map<string, Entry>()
  readonly #changed = new Set<Entry>()

  constructor(database: Database) {
    this.#database = database
  }

  add(task: TallyKey, status: number, change: 1 | -1): void {
    const bytes = task.bytes * change
    const counted = { tasks: change, bytes }
    this.change('tenant', task.tenant, status, counted)
    this.change('model', task.model, status, counted)
    this.change('all', '', status, counted)
    if (task.parent !== null) this.change('parent', parentName(task.parent, task.tenant), status, counted)
  }

  change(kind: string, name: string, status: number, by: Tally): void {
    const entry = this.#entry(kind, name, status)
    entry.tasks += by.tasks
    entry.bytes += by.bytes
    this.#changed.add(entry)
  }

  of(kind: string, name: string, status: number): Tally {
    return this.#entry(kind, name, status)
  }

  /** What waits and runs. */
  live(kind: string, name: string): Tally {
    let tasks = 0
    let bytes = 0
    for (let status = 0; status <= liveMax; status += 1) {
      const entry = this.#entry(kind, name, status)
      tasks += entry.tasks
      bytes += entry.bytes
    }
    return { tasks, bytes }
  }

  /** Writes what has changed. To be called before each commit. */
  flush(): void {
    for (const entry of this.#changed) {
      if (entry.tasks === 0) {
        this.#database
          .sql('DELETE FROM tallies WHERE kind = ? AND name = ? AND status = ?')
          .run(entry.kind, entry.name, entry.status)
      } else {
        this.#database
          .sql(
            `INSERT INTO tallies (kind, name, status, tasks, bytes) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET tasks = excluded.tasks, bytes = excluded.bytes`,
          )
          .run(entry.kind, entry.name, entry.status, entry.tasks, entry.bytes)
      }
    }
    this.#changed.clear()
    if (this.#entries.size > entriesMax) this.#entries.clear()
  }

  /** After a rollback: what is in memory was never written. */
  forget(): void {
    this.#changed.clear()
    this.#entries.clear()
  }

  #entry(kind: string, name: string, status: number): Entry {
    const key = `${kind}${status}${name}`
    let entry = this.#entries.get(key)
    if (!entry) {
      const row = this.#database
        .sql('SELECT tasks, bytes FROM tallies WHERE kind = ? AND name = ? AND status = ?')
        .get(kind, name, status) as Tally | undefined
      entry = { kind, name, status, tasks: row?.tasks ?? 0, bytes: row?.bytes ?? 0 }
      this.#entries.set(key, entry)
    }
    return entry
  }
}

export type TallyKey = { tenant: string; model: string; parent: string | null; bytes: number }

/** A batch counts for its own tenant only: another who names its id is told of nothing. */
export const parentName = (parent: string, tenant: string) => `${parent}\n${tenant}`
