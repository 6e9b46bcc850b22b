import type { Config } from '../config/schema.ts'
import { SizedLruMap } from '../core/bounded.ts'
import type { Clock } from '../core/clock.ts'
import type { Service } from '../core/service.ts'
import type { Logger } from '../telemetry/log.ts'
import { decodeAnswer, encodeAnswer, type CachedAnswer } from './cached-answer.ts'
import { CacheWriter } from './cache-writer.ts'
import type { CacheStore } from './store.ts'

export type CacheSettings = Config['cache']

/** An answer that was found, and how old it is. */
export type FoundAnswer = { answer: CachedAnswer; ageMs: number }

type CacheCounts = {
  storageReads: number
  /** Reads that failed, or took too long. */
  storageReadFailures: number
}

/** What an entry takes in memory beside its body: key, head, objects. */
const entryOverheadBytes = 512
/** A storage that does not answer by then is as good as an empty one: a model is asked. */
const readMsMax = 250
/** After a read that failed, storage is left alone for this long, so that not every call waits for it. */
const restMs = 5_000
const readsMax = 256
/** Clocks of several machines on one database differ by a little; what is further ahead has no age. */
const clockSkewMsMax = 60_000
const pruneEveryMs = 60_000
const pruneStep = 500
/** At most so many steps a turn: what is left waits for the next. */
const pruneStepsMax = 200
const warnEveryMs = 60_000

type Kept = { answer: CachedAnswer; storedAtMs: number }

/**
 * Answers that are given again: in memory, and behind it in the storage. The memory is asked on the spot, the storage
 * with a limit on the wait; nothing of it ever fails a call, and writing is never on the way of an answer.
 */
export class ResultCache implements Service {
  readonly name = 'result-cache'
  readonly counts: CacheCounts = { storageReads: 0, storageReadFailures: 0 }
  readonly writer: CacheWriter
  readonly #store: CacheStore | null
  readonly #clock: Clock
  readonly #settings: () => CacheSettings
  readonly #log: Logger
  /** `storedAtMs` is monotonic here: a wall clock that jumps makes nothing older or younger. */
  readonly #memory = new SizedLruMap<string, Kept>()
  readonly #reads = new Map<string, Promise<FoundAnswer | null>>()
  #restsUntilMs = -Infinity
  #warnedAtMs = -Infinity
  #stopPruning: (() => void) | null = null
  #pruning: Promise<void> | null = null

  constructor(parts: {
    /** Null for a cache in memory alone. */
    store: CacheStore | null
    clock: Clock
    settings: () => CacheSettings
    log: Logger
  }) {
    this.#store = parts.store
    this.#clock = parts.clock
    this.#settings = parts.settings
    this.#log = parts.log
    this.writer = new CacheWriter(parts)
  }

  get isEnabled(): boolean {
    return this.#settings().enabled
  }

  get entryBytesMax(): number {
    return this.#settings().entryBytesMax
  }

  get memoryBytes(): number {
    return this.#memory.total
  }

  get memoryEntries(): number {
    return this.#memory.size
  }

  start(): Promise<void> {
    this.#stopPruning ??= this.#clock.every(pruneEveryMs, () => {
      this.#memory.shrink(this.#settings().memoryBytesMax)
      this.#pruning ??= this.#prune().finally(() => (this.#pruning = null))
    })
    return Promise.resolve()
  }

  async stop(): Promise<void> {
    this.#stopPruning?.()
    this.#stopPruning = null
    await this.#pruning
    await this.writer.flush()
  }

  /** What memory holds of this key, if it is young enough still. */
  peek(key: string): FoundAnswer | null {
    const kept = this.#memory.get(key)
    if (kept === undefined) return null
    const ageMs = this.#clock.now() - kept.storedAtMs
    if (ageMs < this.#settings().ttlMs) return { answer: kept.answer, ageMs }
    this.#memory.delete(key)
    return null
  }

  /** What the storage holds of this key; it is in memory then. Never throws, and takes a quarter of a second at most. */
  find(key: string): Promise<FoundAnswer | null> {
    if (!this.#isStorageUsed() || this.#clock.now() < this.#restsUntilMs) return Promise.resolve(null)
    const underWay = this.#reads.get(key)
    if (underWay) return underWay
    if (this.#reads.size >= readsMax) return Promise.resolve(null)
    const reading = this.#read(key).finally(() => this.#reads.delete(key))
    this.#reads.set(key, reading)
    return reading
  }

  /** Keeps an answer, unless it is too large. Returns at once; the storage is written to later. */
  put(key: string, tenant: string, answer: CachedAnswer): void {
    const { ttlMs, entryBytesMax } = this.#settings()
    if (answer.body.length > entryBytesMax) return
    this.#keep(key, { answer, storedAtMs: this.#clock.now() })
    if (!this.#isStorageUsed()) return
    const storedAtMs = this.#clock.wallMs()
    this.writer.offer({
      key,
      tenant,
      value: encodeAnswer(answer),
      storedAtMs,
      expiresAtMs: storedAtMs + ttlMs,
    })
  }

  #keep(key: string, kept: Kept): void {
    const size = kept.answer.body.length + entryOverheadBytes
    this.#memory.set(key, kept, { size, capacity: this.#settings().memoryBytesMax })
  }

  #isStorageUsed(): boolean {
    return this.#store !== null && this.#settings().storageBytesMax > 0
  }

  async #read(key: string): Promise<FoundAnswer | null> {
    this.counts.storageReads += 1
    let cancel = () => {}
    const late = new Promise<never>((_resolve, reject) => {
      cancel = this.#clock.after(readMsMax, () => reject(new Error(`no answer within ${readMsMax} ms`)))
    })
    try {
      // Read through an async function: a driver that throws on the spot is caught as well.
      const row = await Promise.race([(async () => this.#store?.get(key) ?? null)(), late])
      return row === null ? null : this.#take(key, row)
    } catch (error) {
      this.counts.storageReadFailures += 1
      this.#restsUntilMs = this.#clock.now() + restMs
      this.#warn(error, 'cached answers could not be read')
      return null
    } finally {
      cancel()
    }
  }

  #take(key: string, row: { value: Uint8Array; storedAtMs: number; expiresAtMs: number }) {
    const wallMs = this.#clock.wallMs()
    const ageMs = wallMs - row.storedAtMs
    if (ageMs < -clockSkewMsMax || wallMs >= row.expiresAtMs || ageMs >= this.#settings().ttlMs) return null
    // What is kept must not hold the larger buffer that it may have arrived in.
    const answer = decodeAnswer(new Uint8Array(row.value))
    if (answer === null) return null
    const found = { answer, ageMs: Math.max(0, ageMs) }
    this.#keep(key, { answer, storedAtMs: this.#clock.now() - found.ageMs })
    return found
  }

  /** Removes what is over, step by step: other work gets its turn in between. */
  async #prune(): Promise<void> {
    if (this.#store === null) return
    try {
      for (let step = 0; step < pruneStepsMax && this.#stopPruning !== null; step += 1) {
        const { storageBytesMax } = this.#settings()
        const removed = await this.#store.prune(this.#clock.wallMs(), storageBytesMax, pruneStep)
        if (removed < pruneStep) return
      }
    } catch (error) {
      this.#warn(error, 'cached answers could not be pruned')
    }
  }

  #warn(error: unknown, text: string): void {
    if (this.#clock.now() - this.#warnedAtMs < warnEveryMs) return
    this.#warnedAtMs = this.#clock.now()
    this.#log.warn({ err: error }, text)
  }
}
