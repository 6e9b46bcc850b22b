import type { Clock } from '../../core/clock.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { Store, Wake } from '../store.ts'
import { PostgresAccess } from './access.ts'
import { PostgresBlobs, PostgresCache } from './bytes.ts'
import { Database, defaultLimits, type DatabaseLimits } from './database.ts'
import { PostgresDocuments } from './documents.ts'
import { PostgresMaintenance } from './maintenance.ts'
import { migrate } from './migrate.ts'
import { PostgresOutbox } from './outbox.ts'
import { Tallies } from './tallies.ts'
import { PostgresTasks } from './tasks.ts'
import { PostgresUsage } from './usage.ts'
import { WakeLine } from './wakes.ts'

/** A connection for wake-ups that has broken in silence is found by asking it now and then. */
const probeEveryMs = 15_000

export type PostgresStoreOptions = {
  url: string
  connectionsMax: number
  clock: Clock
  log: Logger
  limits?: Partial<DatabaseLimits>
}

/** The storage on a PostgreSQL server: any number of processes share it. */
export class PostgresStore implements Store {
  readonly name = 'storage'
  readonly tasks: PostgresTasks
  readonly documents: PostgresDocuments
  readonly blobs: PostgresBlobs
  readonly cache: PostgresCache
  readonly outbox: PostgresOutbox
  readonly access: PostgresAccess
  readonly usage: PostgresUsage
  readonly maintenance: PostgresMaintenance
  readonly #options: PostgresStoreOptions & { limits: DatabaseLimits }
  readonly #database: Database
  readonly #tallies: Tallies
  readonly #wakes: WakeLine
  #stopProbe = () => {}
  #started = false

  constructor(options: PostgresStoreOptions) {
    this.#options = { ...options, limits: { ...defaultLimits, ...options.limits } }
    this.#database = new Database(this.#options)
    this.#tallies = new Tallies(this.#database, options.clock)
    this.#wakes = new WakeLine(this.#options)
    this.tasks = new PostgresTasks(this.#database, this.#tallies, this.#wakes)
    this.documents = new PostgresDocuments(this.#database)
    this.blobs = new PostgresBlobs(this.#database)
    this.cache = new PostgresCache(this.#database)
    this.outbox = new PostgresOutbox(this.#database)
    this.access = new PostgresAccess(this.#database, this.#wakes)
    this.usage = new PostgresUsage(this.#database)
    this.maintenance = new PostgresMaintenance(this.#database, this.#tallies)
  }

  async start(): Promise<void> {
    if (this.#started) return
    await migrate(this.#options)
    this.#started = true
    this.#database.open()
    this.#tallies.start()
    await this.#wakes.start()
    this.#stopProbe = this.#options.clock.every(probeEveryMs, () => void this.#wakes.probe())
  }

  async stop(): Promise<void> {
    if (!this.#started) return
    this.#started = false
    this.#stopProbe()
    await this.#tallies.stop()
    await this.#wakes.stop()
    await this.#database.close()
  }

  onWake(listener: (wake: Wake) => void): () => void {
    return this.#wakes.listen(listener)
  }
}
