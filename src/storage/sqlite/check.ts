import { migrations } from './schema.ts'
import { openExisting } from './backup.ts'
import { readVersion, refuseNewer, type Database } from './database.ts'

/** What must hold in every state that was committed: the text of a complaint, and the rows that are wrong. */
const invariants: readonly { complaint: string; wrong: string }[] = [
  {
    complaint: 'tasks have lost their payload',
    wrong: 'SELECT 1 FROM tasks WHERE NOT EXISTS (SELECT 1 FROM payloads p WHERE p.n = tasks.n)',
  },
  {
    complaint: 'tasks wait without a place in the line',
    wrong: 'SELECT 1 FROM tasks WHERE status = 1 AND (tag IS NULL OR ready_at IS NULL)',
  },
  {
    complaint: 'tasks are delayed without a time',
    wrong: 'SELECT 1 FROM tasks WHERE status = 0 AND run_at IS NULL',
  },
  {
    complaint: 'tasks run without a lease',
    wrong: 'SELECT 1 FROM tasks WHERE status = 2 AND (lease_until IS NULL OR attempt = 0)',
  },
  {
    complaint: 'tasks have ended without a time',
    wrong: 'SELECT 1 FROM tasks WHERE status > 2 AND finished_at IS NULL',
  },
  {
    complaint: 'tasks have succeeded without a result',
    wrong: `SELECT 1 FROM tasks t WHERE status = 3
      AND NOT EXISTS (SELECT 1 FROM results r WHERE r.n = t.n AND r.result IS NOT NULL)`,
  },
  {
    complaint: 'tasks have another number of events than they count',
    wrong: `SELECT 1 FROM tasks t WHERE seq - 1 <> (SELECT count(*) FROM events e WHERE e.n = t.n)`,
  },
  ...['payloads', 'results', 'steps', 'events', 'outbox', 'idempotency'].map((table) => ({
    complaint: `rows of ${table} belong to no task`,
    wrong: `SELECT 1 FROM ${table} x WHERE NOT EXISTS (SELECT 1 FROM tasks t WHERE t.n = x.n)`,
  })),
  {
    complaint: 'tallies differ from the tasks that they count',
    wrong: `
      WITH real (kind, name, status, tasks, bytes) AS (
        SELECT 'tenant', tenant, status, count(*), sum(bytes) FROM tasks GROUP BY tenant, status
        UNION ALL SELECT 'model', model, status, count(*), sum(bytes) FROM tasks GROUP BY model, status
        UNION ALL SELECT 'all', '', status, count(*), sum(bytes) FROM tasks GROUP BY status
        UNION ALL SELECT 'parent', parent || char(10) || tenant, status, count(*), sum(bytes) FROM tasks
          WHERE parent IS NOT NULL GROUP BY parent, tenant, status
        UNION ALL SELECT 'cache', '', 0, count(*), sum(bytes) FROM cache HAVING count(*) > 0)
      SELECT * FROM (SELECT * FROM real EXCEPT SELECT kind, name, status, tasks, bytes FROM tallies)
      UNION ALL
      SELECT * FROM (SELECT kind, name, status, tasks, bytes FROM tallies EXCEPT SELECT * FROM real)`,
  },
]

/** Everything that is wrong, in sentences. Reads one state of the database. */
export function checkDatabase(path: string): string[] {
  const database = openExisting(path)
  try {
    refuseNewer(path, readVersion(database))
    database.handle.exec('BEGIN')
    return [...checkPages(database), ...checkInvariants(database)]
  } catch (error) {
    if ((error as Error).name === 'SetupError') throw error
    return [`${path} can't be read: ${(error as Error).message}`]
  } finally {
    database.close()
  }
}

function checkPages({ handle }: Database): string[] {
  const rows = handle.prepare('PRAGMA integrity_check').all() as { integrity_check: string }[]
  return rows.map((row) => row.integrity_check).filter((text) => text !== 'ok')
}

function checkInvariants(database: Database): string[] {
  const version = readVersion(database)
  if (version < migrations.length) {
    return [
      `the schema is version ${version}: start the server once to bring it to version ${migrations.length}`,
    ]
  }
  return invariants.flatMap(({ complaint, wrong }) => {
    const { rows } = database.handle.prepare(`SELECT count(*) AS rows FROM (${wrong})`).get() as {
      rows: number
    }
    return rows === 0 ? [] : [`${rows} ${complaint}`]
  })
}
