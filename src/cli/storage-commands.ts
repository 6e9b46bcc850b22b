import { resolve } from 'node:path'
import type { Flags } from '../config/flags.ts'
import { loadConfig } from '../config/load.ts'
import type { Config } from '../config/schema.ts'
import { systemClock, type Clock } from '../core/clock.ts'
import { SetupError } from '../core/errors.ts'
import { makeAccess } from '../gateway/auth/access-parts.ts'
import { readKeepTimes } from '../gateway/tenants/keep-times.ts'
import { Pruner, type KeepTimes } from '../queue/pruner.ts'
import { sqlitePath } from '../storage/open-store.ts'
import type { Store } from '../storage/store.ts'
import { runAside } from '../storage/sqlite/aside.ts'
import { silentLog, withStore } from './with-store.ts'

type StorageOptions = { config?: string; flags: Flags }

const pruneStep = 1_000
const serverPrunes = 'A server that runs removes by itself what is past its retention.'

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
      ? await withStore(config, serverPrunes, (store) => store.maintenance.check())
      : await runAside({ path, task: 'check' })
  write(complaints.length === 0 ? 'nothing is wrong' : complaints.join('\n'))
  return complaints.length === 0 ? 0 : 1
}

export async function pruneStorage(options: StorageOptions, clock: Clock = systemClock): Promise<number> {
  const config = load(options)
  const removed = await withStore(config, serverPrunes, async (store) => {
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
  const parts = { config: () => config, store, env: process.env, clock, log: silentLog }
  const { tenants, watch } = makeAccess(parts)
  await watch.start()
  await watch.stop()
  return readKeepTimes(tenants, config.storage)
}
