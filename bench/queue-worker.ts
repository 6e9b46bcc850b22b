import pg from 'pg'
import pino from 'pino'
import { systemClock } from '../src/core/clock.ts'
import { PostgresStore } from '../src/storage/postgres/postgres-store.ts'
import type { NewTask } from '../src/storage/task-store.ts'
import { makeNoOpTask } from './no-op-task.ts'
import { announce, answer } from './child.ts'

/** The process that claims and settles no-op tasks on PostgreSQL, each settled by a call of its own. */

type Order = { url: string; tasks: number; loops: number; held: number; tenants: number; resultBytes: number }

const noLimits = { tenantTasksMax: 1e9, tenantBytesMax: 1e12, tasksMax: 1e9, bytesMax: 1e12 }

const makeTask = (index: number, tenants: number): NewTask =>
  makeNoOpTask({
    tenant: `tenant-${index % tenants}`,
    payload: Buffer.from(JSON.stringify({ id: index })),
  })

async function measure({
  url,
  tasks,
  loops,
  held,
  tenants,
  resultBytes,
}: Order): Promise<{ perSecond: number }> {
  const store = new PostgresStore({
    url,
    connectionsMax: 12,
    clock: systemClock,
    log: pino({ level: 'silent' }),
  })
  await store.start()
  for (let index = 0; index < tasks; index += 1000) {
    const count = Math.min(1000, tasks - index)
    await store.tasks.submit(
      Array.from({ length: count }, (_, offset) => makeTask(index + offset, tenants)),
      noLimits,
    )
  }
  const pool = new pg.Pool({ connectionString: url, max: 1 })
  await pool.query('VACUUM ANALYZE autoglm.tasks, autoglm.payloads')
  await pool.query('CHECKPOINT')
  await pool.end()
  const result = Buffer.alloc(resultBytes, 'x')
  let done = 0
  const startMs = performance.now()
  const work = async () => {
    for (;;) {
      const claimed = await store.tasks.claim({
        model: 'm',
        owner: 'bench',
        nowMs: systemClock.wallMs(),
        leaseMs: 60_000,
        limit: Math.floor(held / loops),
        agedLimit: 1,
        ageingMs: 60_000,
      })
      if (claimed.length === 0) return
      const answers = await Promise.all(
        claimed.map(({ task: { id, attempt } }) =>
          store.tasks.settle([
            {
              id,
              attempt,
              nowMs: systemClock.wallMs(),
              instance: 'bench-1',
              outcome: { kind: 'succeeded', result, usage: null },
            },
          ]),
        ),
      )
      done += answers.filter(([answer]) => answer?.kind === 'settled').length
    }
  }
  await Promise.all(Array.from({ length: loops }, work))
  const perSecond = (tasks / (performance.now() - startMs)) * 1000
  const findings = await store.maintenance.check()
  await store.stop()
  if (done !== tasks) throw new Error(`${done} of ${tasks} tasks were settled`)
  if (findings.length > 0) throw new Error(findings.join('; '))
  return { perSecond }
}

if (import.meta.main) {
  answer((order) => measure(order as Order))
  announce()
}
