import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { SetupError } from '../../core/errors.ts'
import { migrations } from './schema.ts'

type DatabaseOptions = { readOnly?: boolean; busyTimeoutMs?: number }

/** A connection and its prepared statements. */
export class Database {
  readonly path: string
  readonly options: DatabaseOptions
  readonly handle: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()
  readonly #arrayStatements = new Map<string, StatementSync>()

  constructor(path: string, options: DatabaseOptions = {}) {
    this.path = path
    this.options = options
    const { readOnly = false, busyTimeoutMs = 5_000 } = options
    this.handle = new DatabaseSync(path, { readOnly, timeout: busyTimeoutMs })
    if (readOnly) return
    this.handle.exec(`
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = FULL;
      PRAGMA temp_store = MEMORY;
      PRAGMA cache_size = -65536;
      PRAGMA wal_autocheckpoint = 4000;
    `)
  }

  /** The statement of this text, prepared once. The texts are constants of the program: there are not many. */
  sql(text: string): StatementSync {
    let statement = this.#statements.get(text)
    if (!statement) {
      statement = this.handle.prepare(text)
      this.#statements.set(text, statement)
    }
    return statement
  }

  /** As `sql`, for many rows: an array takes half of the time that an object with names takes. */
  arrays(text: string): StatementSync {
    let statement = this.#arrayStatements.get(text)
    if (!statement) {
      statement = this.handle.prepare(text)
      statement.setReturnArrays(true)
      this.#arrayStatements.set(text, statement)
    }
    return statement
  }

  begin(): void {
    this.sql('BEGIN IMMEDIATE').run()
  }

  commit(): void {
    this.sql('COMMIT').run()
  }

  /** Some errors (disk full, I/O) have rolled back already. */
  rollback(): void {
    if (this.handle.isTransaction) this.sql('ROLLBACK').run()
  }

  close(): void {
    this.#statements.clear()
    this.#arrayStatements.clear()
    if (this.handle.isOpen) this.handle.close()
  }
}

export function readVersion(database: Database): number {
  const table = database.handle
    .prepare(`SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_version'`)
    .get()
  if (!table) return 0
  const row = database.handle.prepare('SELECT version FROM schema_version').get() as { version: number }
  return row.version
}

export function refuseNewer(path: string, found: number, known = migrations.length): void {
  if (found <= known) return
  throw new SetupError(
    `${path} was written by a newer version of this program: its schema is version ${found}, this program knows ` +
      `versions up to ${known}. Use the newer program, or another data folder.`,
  )
}

/** Brings the tables to the newest version, one transaction a step: cut off anywhere, it goes on where it was. */
export function migrate(database: Database, steps: readonly string[] = migrations): void {
  refuseNewer(database.path, readVersion(database), steps.length)
  for (;;) {
    database.begin()
    try {
      // Read inside of the transaction, so that what is decided here still holds when it is written.
      const version = readVersion(database)
      const step = steps[version]
      if (step === undefined) {
        database.rollback()
        return
      }
      if (version === 0) {
        database.handle.exec('CREATE TABLE schema_version (version INTEGER NOT NULL) STRICT')
        database.handle.exec('INSERT INTO schema_version VALUES (0)')
      }
      database.handle.exec(step)
      database.handle.prepare('UPDATE schema_version SET version = ?').run(version + 1)
      database.commit()
    } catch (error) {
      database.rollback()
      throw error
    }
  }
}
