import type { Database } from './database.ts'

type Tally = { tasks: number; bytes: number }
type Entry = Tally & { kind: string; name: string; status: number }

const entriesMax = 50_000
const liveMax = 2

/**
 * How many tasks there are, and bytes of them, by tenant, model, batch and in all, for each state. Kept in memory and
 * written once a transaction: a count would walk over all the tasks.
 */
export class Tallies {
  readonly #database: Database
  /** By kind and name, then by state: four look-ups a task, however many states it goes through. */
  readonly #entries = new Map<string, Map<string, Entry[]>>()
  readonly #changed = new Set<Entry>()
  #size = 0

  constructor(database: Database) {
    this.#database = database
  }

  add(task: TallyKey, status: number): void {
    this.#each(task, (entries, kind, name) => this.#count(entries, kind, name, status, 1, task.bytes))
  }

  move(task: TallyKey, from: number, to: number): void {
    this.#each(task, (entries, kind, name) => {
      this.#count(entries, kind, name, from, -1, -task.bytes)
      this.#count(entries, kind, name, to, 1, task.bytes)
    })
  }

  remove(task: TallyKey, status: number): void {
    this.#each(task, (entries, kind, name) => this.#count(entries, kind, name, status, -1, -task.bytes))
  }

  change(kind: string, name: string, status: number, by: Tally): void {
    this.#count(this.#entriesOf(kind, name), kind, name, status, by.tasks, by.bytes)
  }

  of(kind: string, name: string, status: number): Tally {
    return this.#entry(this.#entriesOf(kind, name), kind, name, status)
  }

  /** What waits and runs. */
  live(kind: string, name: string): Tally {
    const entries = this.#entriesOf(kind, name)
    let tasks = 0
    let bytes = 0
    for (let status = 0; status <= liveMax; status += 1) {
      const entry = this.#entry(entries, kind, name, status)
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
    if (this.#size > entriesMax) this.forget()
  }

  /** After a rollback: what is in memory was never written. */
  forget(): void {
    this.#changed.clear()
    this.#entries.clear()
    this.#size = 0
  }

  #each(task: TallyKey, run: (entries: Entry[], kind: string, name: string) => void): void {
    run(this.#entriesOf('tenant', task.tenant), 'tenant', task.tenant)
    run(this.#entriesOf('model', task.model), 'model', task.model)
    run(this.#entriesOf('all', ''), 'all', '')
    if (task.parent === null) return
    const name = parentName(task.parent, task.tenant)
    run(this.#entriesOf('parent', name), 'parent', name)
  }

  #count(entries: Entry[], kind: string, name: string, status: number, tasks: number, bytes: number): void {
    const entry = this.#entry(entries, kind, name, status)
    entry.tasks += tasks
    entry.bytes += bytes
    this.#changed.add(entry)
  }

  #entriesOf(kind: string, name: string): Entry[] {
    let names = this.#entries.get(kind)
    if (!names) {
      names = new Map()
      this.#entries.set(kind, names)
    }
    let entries = names.get(name)
    if (!entries) {
      entries = []
      names.set(name, entries)
    }
    return entries
  }

  #entry(entries: Entry[], kind: string, name: string, status: number): Entry {
    let entry = entries[status]
    if (!entry) {
      const row = this.#database
        .sql('SELECT tasks, bytes FROM tallies WHERE kind = ? AND name = ? AND status = ?')
        .get(kind, name, status) as Tally | undefined
      entry = { kind, name, status, tasks: row?.tasks ?? 0, bytes: row?.bytes ?? 0 }
      entries[status] = entry
      this.#size += 1
    }
    return entry
  }
}

type TallyKey = { tenant: string; model: string; parent: string | null; bytes: number }

/** A batch counts for its own tenant only: another who names its id is told of nothing. */
export const parentName = (parent: string, tenant: string) => `${parent}\n${tenant}`
