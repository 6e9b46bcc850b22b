import type { Clock } from '../core/clock.ts'
import type { Logger } from '../telemetry/log.ts'
import type { CacheStore } from './store.ts'

type Entry = Parameters<CacheStore['put']>[0]

/** Entries that wait; beyond either limit a new one is not written. A cache may forget. */
const entriesMax = 4096
const bytesMax = 32 * 1024 * 1024
/** Written together: the store commits together what is given to it together. */
const batchMax = 64
/** How long the end of the program waits for what is not written yet. */
const flushMsMax = 2_000
const warnEveryMs = 60_000

/** Writes answers into the storage behind the back of those who wait for them. */
export class CacheWriter {
  readonly counts = { written: 0, dropped: 0, failures: 0 }
  readonly #store: CacheStore | null
  readonly #clock: Clock
  readonly #log: Logger
  /** By key: of two answers to the same call the newer one is written. */
  readonly #waiting = new Map<string, Entry>()
  #bytes = 0
  #running: Promise<void> | null = null
  #warnedAtMs = -Infinity

  constructor(parts: { store: CacheStore | null; clock: Clock; log: Logger }) {
    this.#store = parts.store
    this.#clock = parts.clock
    this.#log = parts.log
  }

  get waitingEntries(): number {
    return this.#waiting.size
  }

  /** Takes an entry to be written; one that there is no room for is counted and dropped. */
  offer(entry: Entry): void {
    this.#remove(entry.key)
    if (this.#waiting.size >= entriesMax || this.#bytes + entry.value.length > bytesMax) {
      this.counts.dropped += 1
      return
    }
    this.#waiting.set(entry.key, entry)
    this.#bytes += entry.value.length
    this.#running ??= this.#writeAll()
  }

  /** Waits until all is written, but not for long. */
  async flush(): Promise<void> {
    if (this.#running === null) return
    const late = new AbortController()
    await Promise.race([this.#running, this.#clock.sleep(flushMsMax, late.signal).catch(() => {})])
    late.abort()
    // Given up, if it is not done: a second call must not wait again.
    this.#running = null
    this.counts.dropped += this.#waiting.size
    this.#waiting.clear()
    this.#bytes = 0
  }

  async #writeAll(): Promise<void> {
    // The answer is on its way first.
    await Promise.resolve()
    while (this.#waiting.size > 0) {
      const batch = [...this.#waiting.values()].slice(0, batchMax)
      for (const { key } of batch) this.#remove(key)
      const results = await Promise.allSettled(batch.map(async (entry) => this.#store?.put(entry)))
      for (const result of results) {
        if (result.status === 'fulfilled') this.counts.written += 1
        else this.#noteFailure(result.reason)
      }
    }
    // Here and not in a `finally`: an entry that came a moment later would find nobody to write it.
    this.#running = null
  }

  #remove(key: string): void {
    this.#bytes -= this.#waiting.get(key)?.value.length ?? 0
    this.#waiting.delete(key)
  }

  #noteFailure(reason: unknown): void {
    this.counts.failures += 1
    if (this.#clock.now() - this.#warnedAtMs < warnEveryMs) return
    this.#warnedAtMs = this.#clock.now()
    this.#log.warn({ err: reason }, 'cached answers could not be written')
  }
}
