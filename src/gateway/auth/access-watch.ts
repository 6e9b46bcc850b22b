import type { Clock } from '../../core/clock.ts'
import type { Service } from '../../core/service.ts'
import type { Store } from '../../storage/store.ts'
import type { AccessRevision } from '../../storage/access-store.ts'
import type { Logger } from '../../telemetry/log.ts'

/** How often the storage is asked whether anything has changed: the backstop where no wake arrives. */
const askEveryMs = 500
/** Changed keys that are named one by one; beyond it all are in doubt. */
const namedMax = 1_000

export type AccessListener = {
  /** The ids of keys that have changed; null when all may have. */
  keys?: (ids: ReadonlySet<string> | null) => void
  /** May read the storage: a failure is told, and it is asked again soon. */
  tenants?: () => Promise<void>
  secrets?: () => Promise<void>
}

/**
 * Follows the revisions of the storage and tells those who keep what they have read. What was told once is not told
 * again, and nothing is lost when the storage is away for a while: the revision that was seen last is kept.
 */
export class AccessWatch implements Service {
  readonly name = 'access watch'
  readonly #store: Pick<Store, 'access' | 'onWake'>
  readonly #clock: Clock
  readonly #log: Logger
  readonly #listeners: AccessListener[] = []
  #seen: AccessRevision = { keys: -1, tenants: -1, secrets: -1 }
  #running: Promise<void> | null = null
  #again = false
  #isAway = false
  #epoch = 0
  #stops: (() => void)[] = []

  constructor(parts: { store: Pick<Store, 'access' | 'onWake'>; clock: Clock; log: Logger }) {
    this.#store = parts.store
    this.#clock = parts.clock
    this.#log = parts.log
  }

  /**
   * Counts every time that keys have changed. Who reads a key from the storage and finds another number afterwards
   * must not keep what it read: the change may be younger.
   */
  get epoch(): number {
    return this.#epoch
  }

  listen(listener: AccessListener): void {
    this.#listeners.push(listener)
  }

  /** Reads everything once; throws when that fails. */
  async start(): Promise<void> {
    if (this.#stops.length > 0) return
    await this.#read()
    this.#stops = [
      this.#store.onWake(({ kind }) => kind === 'access' && void this.refresh()),
      this.#clock.every(askEveryMs, () => void this.refresh()),
    ]
  }

  async stop(): Promise<void> {
    for (const stop of this.#stops.splice(0)) stop()
    await this.#running
  }

  /** Looks for changes now; resolves when all that was there at the call is known. Never throws. */
  refresh(): Promise<void> {
    if (this.#running) {
      // The look under way may have begun before the change.
      this.#again = true
      return this.#running
    }
    this.#running = this.#readAll()
    return this.#running
  }

  async #readAll(): Promise<void> {
    do {
      this.#again = false
      try {
        await this.#read()
        if (this.#isAway) this.#log.info('keys and tenants are read from the storage again')
        this.#isAway = false
      } catch (error) {
        if (!this.#isAway) this.#log.warn({ err: error }, 'changes of keys and tenants are not seen until the storage is back')
        this.#isAway = true
      }
    } while (this.#again)
    // In the same step as the last look at `again`: who comes later must not wait for what is over.
    this.#running = null
  } // prettier-ignore

  async #read(): Promise<void> {
    const { access } = this.#store
    const now = await access.revision()
    if (now.keys !== this.#seen.keys) {
      // A number that went back is that of another database, such as a copy that was restored.
      const known = this.#seen.keys >= 0 && now.keys > this.#seen.keys
      const ids = known ? await access.changedKeys(this.#seen.keys, namedMax) : null
      this.#epoch += 1
      for (const { keys } of this.#listeners) keys?.(ids === null ? null : new Set(ids))
      this.#seen = { ...this.#seen, keys: now.keys }
    }
    for (const part of ['tenants', 'secrets'] as const) {
      if (now[part] === this.#seen[part]) continue
      for (const listener of this.#listeners) await listener[part]?.()
      this.#seen = { ...this.#seen, [part]: now[part] }
    }
  }
}
