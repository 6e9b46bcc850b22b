import type { Clock } from '../../core/clock.ts'
import { fail, type ApiError } from '../../core/errors.ts'
import { packEvent } from '../../router/responses/events.ts'
import type { ResponseEvent } from '../../router/responses/stream.ts'
import type { Store } from '../../storage/store.ts'
import { askStore } from '../ask-store.ts'

const eventsKind = 'response-events'

/** Bytes that may wait for the storage; a writer that is ahead of it by more is asked to pause. */
const waitingBytesMax = 256 * 1024
/** What one stream may take up. */
const eventsMax = 500_000
const bytesMax = 64 * 1024 * 1024
const pageSize = 256

type LogStore = Pick<Store, 'documents' | 'blobs'>

/**
 * The events of background streams: each event a numbered piece of a blob, so that its number in the stream follows
 * from its place in the storage and no two writers can give the same number twice. A document beside it lets it
 * expire.
 */
export class ResponseEventLog {
  readonly #store: LogStore
  readonly #clock: Clock
  readonly #keepMs: (tenant: string) => number
  readonly #watchElsewhere: ((responseId: string, listener: () => void) => () => void) | null
  readonly #listeners = new Map<string, Set<() => void>>()

  constructor(parts: {
    store: LogStore
    clock: Clock
    keepMs: (tenant: string) => number
    /** Tells of what another process of this machine has written. */
    watchElsewhere?: (responseId: string, listener: () => void) => () => void
  }) {
    this.#watchElsewhere = parts.watchElsewhere ?? null
    this.#store = parts.store
    this.#clock = parts.clock
    this.#keepMs = parts.keepMs
  }

  /**
   * Goes on writing the events of a response, behind those that are there. Once `signal` is aborted nothing more is
   * written: the task may be somebody else's, or have ended.
   */
  async open(tenant: string, responseId: string, signal?: AbortSignal): Promise<EventWriter> {
    const id = nameOf(responseId)
    const nowMs = this.#clock.wallMs()
    await askStore(() =>
      this.#store.documents.insert({
        ...{ kind: eventsKind, id, tenant, createdAtMs: nowMs, expiresAtMs: nowMs + this.#keepMs(tenant) },
        ...{ open: false, data: '{}' },
      }),
    )
    return new EventWriter({
      signal,
      append: async (pieces) => {
        await askStore(() => this.#store.blobs.append(id, pieces))
        for (const tell of this.#listeners.get(responseId) ?? []) tell()
      },
    })
  }

  /** Up to `limit` packed events after the piece with this number. */
  async read(
    responseId: string,
    after: number,
    limit = pageSize,
  ): Promise<{ number: number; packed: string }[]> {
    const pieces = await askStore(() => this.#store.blobs.read(nameOf(responseId), after, limit))
    return pieces.map(({ number, bytes }) => ({ number, packed: Buffer.from(bytes).toString('utf8') }))
  }

  /** How many events there are, and the last one. */
  async last(responseId: string): Promise<{ events: number; packed: string | null }> {
    let last: { number: number; packed: string | null } = { number: 0, packed: null }
    for (;;) {
      const page = await this.read(responseId, last.number)
      last = page.at(-1) ?? last
      if (page.length < pageSize) return { events: last.number, packed: last.packed }
    }
  }

  async remove(tenant: string, responseId: string): Promise<void> {
    const id = nameOf(responseId)
    await askStore(() => this.#store.blobs.remove(id))
    await askStore(() => this.#store.documents.remove(eventsKind, tenant, id))
  }

  /**
   * Calls `listener` when this process, or one that tells it, has written events of the response, until the returned
   * function is called.
   */
  watch(responseId: string, listener: () => void): () => void {
    const listeners = this.#listeners.get(responseId) ?? new Set()
    this.#listeners.set(responseId, listeners)
    listeners.add(listener)
    const unwatch = this.#watchElsewhere?.(responseId, listener)
    return () => {
      unwatch?.()
      listeners.delete(listener)
      if (listeners.size === 0) this.#listeners.delete(responseId)
    }
  }
}

const nameOf = (responseId: string) => `response-events:${responseId}`

/** Writes events as they come: whatever has come while the storage was busy goes in one step. */
export class EventWriter {
  readonly #append: (pieces: readonly Uint8Array[]) => Promise<void>
  readonly #signal: AbortSignal | undefined
  #waiting: Buffer[] = []
  #waitingBytes = 0
  #events = 0
  #bytes = 0
  #isWriting = false
  #writing: Promise<void> = Promise.resolve()
  #error: unknown = null
  #resume: (() => void) | null = null

  constructor(parts: {
    append: (pieces: readonly Uint8Array[]) => Promise<void>
    signal: AbortSignal | undefined
  }) {
    this.#append = parts.append
    this.#signal = parts.signal
  }

  /** What went wrong; null while nothing has. */
  get error(): unknown {
    return this.#error
  }

  /** False asks for a pause until `resume` is called. Never throws: `flush` does. */
  write(events: readonly ResponseEvent[], resume?: () => void): boolean {
    if (this.#signal?.aborted) return true
    for (const event of events) {
      const piece = Buffer.from(packEvent(event))
      this.#waiting.push(piece)
      this.#waitingBytes += piece.length
      this.#bytes += piece.length
      this.#events += 1
    }
    if (this.#events > eventsMax || this.#bytes > bytesMax) this.#error ??= tooLong()
    if (this.#error !== null) return true
    if (!this.#isWriting && this.#waiting.length > 0) this.#writing = this.#writeAll()
    if (this.#waitingBytes <= waitingBytesMax || !resume) return true
    this.#resume = resume
    return false
  }

  /** Resolves when everything is stored. Throws what kept it from being so. */
  async flush(): Promise<void> {
    await this.#writing
    if (this.#error !== null) throw this.#error as ApiError
  }

  async #writeAll(): Promise<void> {
    this.#isWriting = true
    try {
      while (this.#waiting.length > 0 && !this.#signal?.aborted) {
        const pieces = this.#waiting
        this.#waiting = []
        await this.#append(pieces)
        this.#waitingBytes -= pieces.reduce((sum, piece) => sum + piece.length, 0)
      }
    } catch (thrown) {
      this.#error = thrown
    }
    this.#isWriting = false
    const resume = this.#resume
    this.#resume = null
    resume?.()
  }
}

const tooLong = () =>
  fail('stream_broken', {
    message: `A background stream holds at most ${eventsMax} events and ${bytesMax} bytes.`,
  })
