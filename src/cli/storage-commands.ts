import pino from 'pino'
import { resolve } from 'node:path'
import type { Flags } from '../config/flags.ts'
import { loadConfig } from '../config/load.ts'
import type { Config } from '../config/schema.ts'
import { systemClock, type Clock } from '../core/clock.ts'
import { SetupError } from '../core/errors.ts'
import { AccessWatch } from '../gateway/auth/access-watch.ts'
import { readKeepTimes } from '../gateway/tenants/keep-times.ts'
import { TenantBook } from '../gateway/tenants/tenant-book.ts'
import { Pruner, type KeepTimes } from '../queue/pruner.ts'
import { openStore, sqlitePath } from '../storage/open-store.ts'
import type { Store } from '../storage/store.ts'
import { runAside } from '../storage/sqlite/aside.ts'

export type StorageOptions = { config?: string; flags: Flags }

const pruneStep = 1_000
const log = pino({ level: 'silent' })

const load = ({ config, flags }: StorageOptions): Config =>
  loadConfig({ file: config, env: process.env, cwd: process.cwd(), flags })

const write = (text: string) => void process.stdout.write(`${text}\n`)

/** Needs no lock: the copy is of one state of the database, whoever else writes to it. */
export async function backUpStorage(target: string, options: StorageOptions): Promise<number> {
  const config = load(options)
  const path = sqlitePath(config.storage, config.dataDir)
  if (path === null) {
    throw new SetupError(
      'This storage is PostgreSQL, which has its own tools for backups: `pg_dump` for a copy, `pg_basebackup` and ' +
        'archived WAL for any point in time.',
    )
  }
  await runAside({ path, task: 'backup', target: resolve(target) })
  write(`${path} is copied to ${target}`)
  return 0
}

export async function checkStorage(options: StorageOptions): Promise<number> {
  const config = load(options)
  const path = sqlitePath(config.storage, config.dataDir)
  const complaints =
    path === null
      ? await withStore(config, (store) => store.maintenance.check())
      : await runAside({ path, task: 'check' })
  write(complaints.length === 0 ? 'nothing is wrong' : complaints.join('\n'))
  return complaints.length === 0 ? 0 : 1
}

export async function pruneStorage(options: StorageOptions, clock: Clock = systemClock): Promise<number> {
  const config = load(options)
  const removed = await withStore(config, async (store) => {
    const times = await readTimes(config, store, clock)
    const pruner = new Pruner({ maintenance: store.maintenance, clock, times: () => times })
    let sum = 0
    for (;;) {
      const step = await pruner.step(pruneStep)
      sum += step.removed
      if (step.isDone) return sum
    }
  })
  write(`${removed} ended tasks and expired documents were removed`)
  return 0
}

/** Tenants are in the configuration and in the storage. */
async function readTimes(config: Config, store: Store, clock: Clock): Promise<KeepTimes> {
  const watch = new AccessWatch({ store, clock, log })
  const book = new TenantBook({ access: store.access, watch, clock, log, configured: () => config.tenants })
  await watch.start()
  await watch.stop()
  return readKeepTimes(book, config.storage)
}

async function withStore<T>(config: Config, run: (store: Store) => Promise<T>): Promise<T> {
  const { dataDir, storage } = config
  const store = await openStore(storage, { dataDir, clock: systemClock, log })
  try {
    await store.start().catch((error: unknown) => {
      if (!(error instanceof SetupError)) throw error
      throw new SetupError(
        `${error.message}\nA server that runs removes by itself what is past its retention.`,
      )
    })
    return await run(store)
  } finally {
    await store.stop()
  }
}
