import type { Clock } from '../core/clock.ts'
import { makeId } from '../core/ids.ts'
import type { Service } from '../core/service.ts'
import type { Store } from './store.ts'

const everyMs = 5_000

/** Writes one small row every few seconds: a disk that is full, or a database that is away, shows in /healthz. */
export class StorageProbe implements Service {
  readonly name = 'storage-probe'
  readonly #store: Store
  readonly #clock: Clock
  readonly #key = makeId('probe')
  #problem: string | null = null
  #asking = false
  #stopAsking: (() => void) | null = null

  constructor(parts: { store: Store; clock: Clock }) {
    this.#store = parts.store
    this.#clock = parts.clock
  }

  /** What is wrong with the storage, in a sentence; null when it takes writes. */
  get problem(): string | null {
    return this.#problem
  }

  start(): Promise<void> {
    this.#stopAsking ??= this.#clock.every(everyMs, () => void this.#ask())
    return Promise.resolve()
  }

  stop(): Promise<void> {
    this.#stopAsking?.()
    this.#stopAsking = null
    return Promise.resolve()
  }

  async #ask(): Promise<void> {
    if (this.#asking) {
      this.#problem = `the storage has not answered for ${everyMs / 1000} s`
      return
    }
    this.#asking = true
    const storedAtMs = this.#clock.wallMs()
    const entry = { key: this.#key, tenant: '', value: Buffer.from('1'), storedAtMs }
    try {
      await this.#store.cache.put({ ...entry, expiresAtMs: storedAtMs + 2 * everyMs })
      this.#problem = null
    } catch (error) {
      this.#problem = `the storage takes no writes: ${(error as Error).message}`
    } finally {
      this.#asking = false
    }
  }
}
