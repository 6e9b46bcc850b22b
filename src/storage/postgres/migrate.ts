import pg from 'pg'
import { SetupError } from '../../core/errors.ts'
import { makeClientConfig, prepareConnection, type DatabaseLimits } from './database.ts'
import { migrations } from './schema.ts'
import { explainSetup } from './setup-errors.ts'

/** Any number, the same for all: who holds this lock migrates. */
const lockKey = 4_718_202_603

/** A migration, and waiting for another's, may take longer than any statement of daily work. */
const migrationTimeoutMs = 600_000

/**
 * Brings the schema to the version of this program. Several workers may start at once: one migrates, the others wait.
 * Killed in the middle, the step under way is undone by the server, and the next start goes on from there.
 */
export async function migrate(options: {
  url: string
  limits: DatabaseLimits
  steps?: readonly string[]
}): Promise<void> {
  const { url, limits, steps = migrations } = options
  const client = makeClient(url, limits)
  try {
    await client.connect()
    await prepareConnection(client, { ...limits, statementTimeoutMs: migrationTimeoutMs })
    await client.query('SELECT pg_advisory_lock($1)', [lockKey])
    await applySteps(client, steps)
  } catch (error) {
    throw explainSetup(error, url)
  } finally {
    // Ends the session, and with it the lock.
    await client.end().catch(() => {})
  }
}

function makeClient(url: string, limits: DatabaseLimits): pg.Client {
  try {
    const client = new pg.Client({
      ...makeClientConfig({ url, limits }),
      query_timeout: migrationTimeoutMs + limits.silenceMs,
    })
    // What goes wrong later is told by the query that meets it.
    client.on('error', () => {})
    return client
  } catch (error) {
    throw explainSetup(error, url)
  }
}

async function applySteps(client: pg.Client, steps: readonly string[]): Promise<void> {
  const version = await readVersion(client)
  if (version > steps.length) {
    throw new SetupError(
      `The database has schema version ${version}, and this program knows versions up to ${steps.length}: it was used by a newer release. Install that release, or point \`storage.url\` to another database.`,
    )
  }
  for (const [index, step] of steps.entries()) {
    if (index < version) continue
    await client.query('BEGIN')
    await client.query(step)
    await client.query('INSERT INTO schema_version (version) VALUES ($1)', [index + 1])
    await client.query('COMMIT')
  }
}

async function readVersion(client: pg.Client): Promise<number> {
  // Asked first: CREATE SCHEMA IF NOT EXISTS wants the right to create one even where there is nothing to create.
  const { rows } = await client.query<{ there: boolean }>(
    `SELECT to_regclass('autoglm.schema_version') IS NOT NULL AS there`,
  )
  if (rows[0]?.there !== true) {
    await client.query('BEGIN')
    await client.query('CREATE SCHEMA IF NOT EXISTS autoglm')
    await client.query(
      'CREATE TABLE autoglm.schema_version (version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())',
    )
    await client.query('COMMIT')
  }
  const found = await client.query<{ version: number }>(
    'SELECT coalesce(max(version), 0) AS version FROM autoglm.schema_version',
  )
  return found.rows[0]?.version ?? 0
}
