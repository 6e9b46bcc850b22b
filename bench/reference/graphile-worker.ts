import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { announce, answer } from '../child.ts'
import { scratchDir } from '../processes.ts'

const version = '0.18.0'
export const graphileName = `graphile-worker ${version}`

const folder = join(scratchDir, `graphile-worker-${version}`)
const entry = join(folder, 'node_modules', 'graphile-worker', 'dist', 'index.js')

/** What of its library is used here: it is installed by the benchmark, and has no types before. */
type Graphile = {
  run: (options: object) => Promise<{ stop: () => Promise<void> }>
  runMigrations: (options: object) => Promise<void>
  Logger: new (factory: () => () => void) => object
}

/** Installs graphile-worker from npm into the scratch folder; false, said aloud, when npm cannot. */
export function installGraphile(): boolean {
  if (existsSync(entry) || install()) return true
  console.log('  graphile-worker could not be installed from npm: left out.')
  return false
}

function install(): boolean {
  console.log(`  Installing graphile-worker@${version} into bench/.scratch …`)
  mkdirSync(folder, { recursive: true })
  const flags = ['--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error', '--prefix', folder]
  const npm = spawnSync('npm', ['install', ...flags, `graphile-worker@${version}`], {
    cwd: folder,
    timeout: 120_000,
  })
  return npm.status === 0
}

type Order = { url: string; tasks: number; concurrency: number; held: number; batchDelayMs: number }

/** Runs no-op jobs with its batching on: jobs are fetched `held` at a time, and completed in batches. */
async function measure({
  url,
  tasks,
  concurrency,
  held,
  batchDelayMs,
}: Order): Promise<{ perSecond: number }> {
  const { run, runMigrations, Logger } = (await import(entry)) as Graphile
  const pool = new pg.Pool({ connectionString: url, max: 12 })
  const logger = new Logger(() => () => {})
  await runMigrations({ pgPool: pool, logger })
  for (let index = 0; index < tasks; index += 1000) {
    await pool.query(
      `SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
         SELECT ROW('noop', json_build_object('id', n), NULL, NULL, NULL, NULL, NULL, NULL)::graphile_worker.job_spec
         FROM generate_series($1::integer, $2::integer) AS n))`,
      [index + 1, Math.min(index + 1000, tasks)],
    )
  }
  await pool.query('VACUUM ANALYZE graphile_worker._private_jobs')
  await pool.query('CHECKPOINT')
  let done = 0
  const whole = Promise.withResolvers<void>()
  const startMs = performance.now()
  const runner = await run({
    pgPool: pool,
    taskList: {
      noop: () => {
        done += 1
        if (done === tasks) whole.resolve()
      },
    },
    preset: {
      worker: {
        logger,
        concurrentJobs: concurrency,
        localQueue: { size: held },
        completeJobBatchDelay: batchDelayMs,
        failJobBatchDelay: batchDelayMs,
        preparedStatements: true,
      },
    },
    noHandleSignals: true,
  })
  await whole.promise
  // It is over when the last completion is on disk.
  for (let left = 1; left > 0;) {
    const { rows } = await pool.query<{ left: number }>(
      'SELECT count(*)::integer AS left FROM (SELECT FROM graphile_worker._private_jobs LIMIT 1) AS j',
    )
    left = rows[0]?.left ?? 0
  }
  const perSecond = (tasks / (performance.now() - startMs)) * 1000
  await runner.stop()
  await pool.end()
  return { perSecond }
}

if (import.meta.main) {
  answer((order) => measure(order as Order))
  announce()
}
