import type { ServerResponse } from 'node:http'
import type { Clock } from '../core/clock.ts'

/** Often enough for proxies that cut a connection after 30 s of silence. */
const heartbeatMs = 15_000
const heartbeat = ': still here\n\n'
/** What is written at once: a client that takes that much in time is not stalled, however long the event. */
const pieceBytes = 65_536

/** One server-sent event. `data` becomes JSON, which holds no line break. */
export function formatNamedEvent(event: string, data: unknown, id?: string): string {
  return `event: ${event}\n${id === undefined ? '' : `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`
}

/**
 * An answer of server-sent events that the gateway writes itself. Whoever writes waits until there is room, so that
 * a slow client costs one event of memory; one that takes nothing for `stallMs` is cut off.
 */
export class EventStream {
  readonly #response: ServerResponse
  readonly #clock: Clock
  readonly #stallMs: number
  readonly #gone = new AbortController()
  #isAmidEvent = false
  #stopHeartbeat: (() => void) | null = null
  #stopStallTimer: (() => void) | null = null

  constructor(parts: { response: ServerResponse; clock: Clock; stallMs: number }) {
    this.#response = parts.response
    this.#clock = parts.clock
    this.#stallMs = parts.stallMs
    parts.response.once('close', () => this.#release())
    if (parts.response.destroyed) this.#release()
  }

  /** Aborted when the client is gone, was cut off, or has got everything. */
  get signal(): AbortSignal {
    return this.#gone.signal
  }

  /** Writes the head and the first lines; from here on, comments keep the connection alive. */
  open(headers: Readonly<Record<string, string>>, first: string): void {
    if (this.signal.aborted) return
    this.#response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      'x-accel-buffering': 'no',
      ...headers,
    })
    this.#response.write(first)
    this.#stopHeartbeat = this.#clock.every(heartbeatMs, () => {
      // Who has bytes to take already needs no more of them.
      if (!this.#isAmidEvent && this.#response.writableLength === 0) this.#response.write(heartbeat)
    })
  }

  /** Resolves when there is room for more; false when nobody takes it any more. */
  async send(text: string): Promise<boolean> {
    const bytes = Buffer.from(text)
    this.#isAmidEvent = true
    for (let at = 0; at < bytes.length && !this.signal.aborted; at += pieceBytes) {
      if (!this.#response.write(bytes.subarray(at, at + pieceBytes))) await this.#waitForRoom()
    }
    this.#isAmidEvent = false
    return !this.signal.aborted
  }

  /** Sends the last bytes and ends. */
  async end(text: string): Promise<void> {
    if (!(await this.send(text))) return
    this.#stopHeartbeat?.()
    this.#response.end()
    if (this.#response.writableLength > 0) this.#watchStall()
  }

  #waitForRoom(): Promise<void> {
    return new Promise((resolve) => {
      const go = () => {
        this.#stopStallTimer?.()
        this.#response.off('drain', go)
        this.signal.removeEventListener('abort', go)
        resolve()
      }
      this.#response.once('drain', go)
      this.signal.addEventListener('abort', go, { once: true })
      this.#watchStall()
    })
  }

  /** Cuts the client off when it takes nothing for `stallMs`; one that is merely slow goes on. */
  #watchStall(): void {
    this.#stopStallTimer?.()
    const waiting = this.#response.writableLength
    this.#stopStallTimer = this.#clock.after(this.#stallMs, () => {
      if (this.#response.writableLength < waiting) this.#watchStall()
      else this.#response.destroy()
    })
  }

  #release(): void {
    this.#stopHeartbeat?.()
    this.#stopStallTimer?.()
    this.#gone.abort()
  }
}
