import { randomBytes } from 'node:crypto'
import pg from 'pg'
import pino from 'pino'
import { systemClock, type Clock } from '../../src/core/clock.ts'
import { PostgresStore, type PostgresStoreOptions } from '../../src/storage/postgres/postgres-store.ts'
import { serviceUrl } from './services.ts'

export type TestDatabase = {
  url: string
  name: string
  /** For looks at it, and harm done to it, from outside. */
  query<R extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<R[]>
  /** Empties all tables; a new schema for each test would take ten times as long. */
  clear(): Promise<void>
  drop(): Promise<void>
}

/** A database of its own for a test file, on the server of the tests or another. */
export async function createDatabase(server = serviceUrl('postgresql')): Promise<TestDatabase> {
  const name = `autoglm_test_${process.pid}_${randomBytes(4).toString('hex')}`
  await runOnce(server, `CREATE DATABASE ${name}`)
  const url = new URL(server)
  url.pathname = `/${name}`
  const pool = new pg.Pool({ connectionString: url.href, max: 2 })
  pool.on('error', () => {})
  return {
    url: url.href,
    name,
    query: async <R extends pg.QueryResultRow>(text: string, values: unknown[] = []) =>
      (await pool.query<R>(text, values)).rows,
    clear: async () => {
      const { rows } = await pool.query<{ table: string }>(
        `SELECT format('%I.%I', schemaname, tablename) AS table FROM pg_tables
         WHERE schemaname = 'autoglm' AND tablename <> 'schema_version'`,
      )
      await pool.query(rows.map(({ table }) => `DELETE FROM ${table};`).join(' '))
    },
    drop: async () => {
      await pool.end()
      await runOnce(server, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
    },
  }
}

export async function runOnce(server: string, text: string): Promise<void> {
  const client = new pg.Client({ connectionString: server, connectionTimeoutMillis: 5_000 })
  await client.connect()
  try {
    await client.query(text)
  } finally {
    await client.end()
  }
}

export function makeStore(
  url: string,
  more: Partial<PostgresStoreOptions> & { clock?: Clock } = {},
): PostgresStore {
  return new PostgresStore({
    url,
    connectionsMax: 4,
    clock: systemClock,
    log: pino({ level: 'silent' }),
    ...more,
  })
}
