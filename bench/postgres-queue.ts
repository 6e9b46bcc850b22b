import pg from 'pg'
import type { Finding } from './finding.ts'
import { ask, launchOwn } from './processes.ts'
import { graphileName, installGraphile } from './reference/graphile-worker.ts'
import { formatRatio, printTable } from './table.ts'

/**
 * Claim and settle of no-op tasks on PostgreSQL beside graphile-worker: the same server, the same number of tasks, as
 * many held at once by one process, both with their batching on. Ours keeps its fairness (20 tenants), its fencing, its
 * history and its counters meanwhile. Each is measured in several rounds, in turn, in a new database and process; the
 * best round of each counts, as others on the machine can only slow a round down.
 */

const server = process.env['AUTOGLM_TEST_POSTGRES'] ?? 'postgres://postgres@127.0.0.1:5432/postgres'
/** Leases that one process holds at once. */
const held = 500

type Contender = { name: string; file: string; order: object }

const ours = (resultBytes: number, name: string): Contender => ({
  name,
  file: 'queue-worker.ts',
  order: { held, loops: 4, tenants: 20, resultBytes },
})

const graphile: Contender = {
  name: graphileName,
  file: 'reference/graphile-worker.ts',
  order: { held, concurrency: 24, batchDelayMs: 0 },
}

const contenders = [ours(0, 'autoglm'), ours(200, 'autoglm, keeping results of 200 bytes'), graphile]

export async function benchPostgresQueue({ quick }: { quick: boolean }): Promise<Finding[]> {
  const reason = await explainAbsence()
  if (reason !== null) {
    console.log(`SKIPPED: the queue on PostgreSQL is not measured, ${reason}`)
    return []
  }
  const tasks = quick ? 10_000 : 50_000
  const rounds = quick ? 2 : 5
  const measured = installGraphile() ? contenders : contenders.slice(0, -1)
  console.log(
    `Claim and settle on PostgreSQL: ${tasks} no-op tasks, ${held} held at once, best of ${rounds} rounds`,
  )
  const best = new Map(measured.map(({ name }) => [name, 0]))
  for (let round = 0; round < rounds; round += 1) {
    for (const contender of measured) {
      const perSecond = await runOnce(contender, tasks)
      best.set(contender.name, Math.max(best.get(contender.name) ?? 0, perSecond))
    }
  }
  const reference = best.get(graphileName)
  printTable(
    ['queue', 'tasks/s', ''],
    [...best].map(([name, perSecond]) => [
      name,
      format(perSecond),
      reference === undefined ? '' : formatRatio(perSecond / reference),
    ]),
  )
  if (reference === undefined) return []
  const figure = best.get('autoglm') ?? 0
  return [
    {
      what: 'claim and settle, PostgreSQL',
      figure: `${format(figure)}/s`,
      reference: `${formatRatio(figure / reference)} ${graphileName} (${format(reference)}/s)`,
      target: 'at least 1×',
      met: figure >= reference,
    },
  ]
}

async function runOnce({ file, order }: Contender, tasks: number): Promise<number> {
  const name = `autoglm_bench_${process.pid}`
  await query(`CREATE DATABASE ${name}`)
  try {
    const url = new URL(server)
    url.pathname = `/${name}`
    const { program } = await launchOwn({ name: 'postgres-queue', file, core: null })
    try {
      const { perSecond } = (await ask(program, { ...order, url: url.href, tasks })) as { perSecond: number }
      return perSecond
    } finally {
      await program.stop()
    }
  } finally {
    await query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
  }
}

async function query(text: string): Promise<void> {
  const client = new pg.Client({ connectionString: server, connectionTimeoutMillis: 5_000 })
  await client.connect()
  try {
    await client.query(text)
  } finally {
    await client.end()
  }
}

const explainAbsence = (): Promise<string | null> =>
  query('SELECT 1').then(
    () => null,
    () => `no server at ${new URL(server).host} (AUTOGLM_TEST_POSTGRES names another)`,
  )

const format = (perSecond: number) => Math.round(perSecond).toLocaleString('en-US')

if (import.meta.main) {
  const { printFindings } = await import('./finding.ts')
  printFindings(await benchPostgresQueue({ quick: process.argv.includes('--quick') }))
  process.exit()
}
