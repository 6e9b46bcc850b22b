import { join } from 'node:path'
import type { Clock } from '../core/clock.ts'
import type { Config } from '../config/schema.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Store } from './store.ts'

type OpenStoreParts = { dataDir: string; clock: Clock; log: Logger }

/** The file of the embedded database; null when the storage is a server elsewhere. */
export function sqlitePath({ url }: Pick<Config['storage'], 'url'>, dataDir: string): string | null {
  if (url === '') return join(dataDir, 'autoglm.db')
  return url.startsWith('sqlite:') ? url.slice('sqlite:'.length) : null
}

/** The store that the configuration names, not started yet. Only its own driver is loaded. */
export async function openStore(config: Config['storage'], parts: OpenStoreParts): Promise<Store> {
  const { dataDir, clock, log } = parts
  const path = sqlitePath(config, dataDir)
  if (path !== null) {
    const { SqliteStore } = await import('./sqlite/sqlite-store.ts')
    return new SqliteStore({ path, clock, log })
  }
  const { PostgresStore } = await import('./postgres/postgres-store.ts')
  return new PostgresStore({ url: config.url, connectionsMax: config.connectionsMax, clock, log })
}
