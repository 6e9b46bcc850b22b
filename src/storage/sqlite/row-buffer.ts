import type { SQLInputValue } from 'node:sqlite'
import type { Database } from './database.ts'

/** Rows that one statement takes, the most first: the texts of statements are few, and each is prepared once. */
const sizes = [16, 4, 1] as const

/**
 * Rows on their way into one table, written by sixteen. To begin a statement, to open its indexes and to end it costs
 * about as much as a row does.
 */
export class RowBuffer {
  readonly #database: Database
  readonly #columns: number
  readonly #texts: readonly string[]
  #values: SQLInputValue[] = []

  /** `conflict` is what follows the values: `ON CONFLICT DO UPDATE …`. */
  constructor(database: Database, table: string, columns: readonly string[], conflict = '') {
    this.#database = database
    this.#columns = columns.length
    const row = `(${columns.map(() => '?').join(', ')})`
    this.#texts = sizes.map(
      (size) =>
        `INSERT INTO ${table} (${columns.join(', ')}) VALUES ${Array(size).fill(row).join(', ')} ${conflict}`,
    )
  }

  /** In the order of the columns. */
  add(...row: SQLInputValue[]): void {
    const values = this.#values
    for (const value of row) values.push(value)
    if (values.length >= sizes[0] * this.#columns) this.flush()
  }

  flush(): void {
    const values = this.#values
    if (values.length === 0) return
    this.#values = []
    let start = 0
    for (const [index, size] of sizes.entries()) {
      const length = size * this.#columns
      for (; values.length - start >= length; start += length) {
        const rows = start === 0 && values.length === length ? values : values.slice(start, start + length)
        this.#database.sql(this.#texts[index] as string).run(...rows)
      }
    }
  }

  /** After a rollback. */
  forget(): void {
    this.#values = []
  }
}
