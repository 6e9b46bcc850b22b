import pg from 'pg'
import type { Clock } from '../../core/clock.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { Wake } from '../store.ts'
import { makeClientConfig, prepareConnection, type DatabaseLimits } from './database.ts'

const channel = 'autoglm_wake'
/** PostgreSQL takes less than 8,000 bytes for one message. */
const messageBytesMax = 7_000
/**
 * Hints for other processes that may wait to be sent. Under load most find no room: those who miss one look for
 * themselves before long, and the work is not slowed down by talk of it.
 */
const waitingMax = 200
/** The same for those that people wait for, while the connection is away. */
const pressingMax = 10_000
const reconnectDelayMs = 250
const reconnectDelayMaxMs = 10_000

/**
 * Hints between processes, by LISTEN and NOTIFY on one connection of its own. They are sent after the commit they tell
 * of and not within it: a NOTIFY in a transaction makes all such commits wait for one another. What is lost with the
 * connection is no harm, as everyone who listens looks from time to time as well.
 */
export class WakeLine {
  readonly #options: { url: string; limits: DatabaseLimits; clock: Clock; log: Logger }
  readonly #listeners = new Set<(wake: Wake) => void>()
  #client: pg.Client | null = null
  #waiting = new Map<string, Wake>()
  #sending = false
  #wanted = false
  #delayMs = reconnectDelayMs
  #cancelReconnect = () => {}

  constructor(options: { url: string; limits: DatabaseLimits; clock: Clock; log: Logger }) {
    this.#options = options
  }

  async start(): Promise<void> {
    this.#wanted = true
    await this.#connect()
  }

  async stop(): Promise<void> {
    this.#wanted = false
    this.#cancelReconnect()
    const client = this.#client
    this.#client = null
    this.#waiting.clear()
    if (client) await client.end().catch(() => {})
  }

  listen(listener: (wake: Wake) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Hints that are not sent yet. */
  get waiting(): number {
    return this.#waiting.size
  }

  /** Tells this process now and the others soon. To be called after the commit. */
  tell(wakes: readonly Wake[]): void {
    for (const wake of wakes) {
      if (this.#listeners.size > 0) this.#hear(wake)
      const max = isPressing.has(wake.kind) ? pressingMax : waitingMax
      if (this.#waiting.size < max) this.#waiting.set(keyOf(wake), wake)
    }
    void this.#send()
  }

  #hear(wake: Wake): void {
    for (const listener of this.#listeners) {
      try {
        listener(wake)
      } catch (error) {
        // A listener's fault must not become the failure of a write that is committed.
        this.#options.log.error({ err: error }, 'a listener of the store failed')
      }
    }
  }

  async #send(): Promise<void> {
    if (this.#sending || this.#waiting.size === 0 || !this.#client) return
    this.#sending = true
    try {
      while (this.#waiting.size > 0 && this.#client) {
        const messages = packWakes([...this.#waiting.values()])
        this.#waiting.clear()
        await this.#client.query({
          name: 'notify',
          text: `SELECT pg_notify('${channel}', m) FROM unnest($1::text[]) m`,
          values: [messages],
        })
      }
    } catch (error) {
      this.#lose(this.#client, error as Error)
    } finally {
      this.#sending = false
    }
  }

  async #connect(): Promise<void> {
    const { limits } = this.#options
    let client: pg.Client | null = null
    try {
      client = new pg.Client(makeClientConfig(this.#options))
      const opened = client
      opened.on('error', (error) => this.#lose(opened, error))
      opened.on('end', () => this.#lose(opened, new Error('the connection was closed')))
      await opened.connect()
      await prepareConnection(opened, limits)
      // Hints need not survive a crash: no flush of the log for them.
      await opened.query('SET synchronous_commit = off')
      opened.on('notification', ({ payload, processId }) => {
        const own = (opened as unknown as { processID: number }).processID
        if (processId !== own) for (const wake of unpackWakes(payload ?? '')) this.#hear(wake)
      })
      await opened.query(`LISTEN ${channel}`)
      if (!this.#wanted) {
        await opened.end()
        return
      }
      this.#client = opened
      this.#delayMs = reconnectDelayMs
      void this.#send()
    } catch (error) {
      void client?.end().catch(() => {})
      this.#reconnectLater(error as Error)
    }
  }

  #lose(client: pg.Client | null, error: Error): void {
    if (client === null || this.#client !== client) return
    this.#client = null
    void client.end().catch(() => {})
    this.#reconnectLater(error)
  }

  #reconnectLater(error: Error): void {
    if (!this.#wanted) return
    const { clock, log } = this.#options
    log.warn({ reason: error.message }, 'no wake-ups from PostgreSQL until it is reached again')
    this.#cancelReconnect()
    this.#cancelReconnect = clock.after(this.#delayMs, () => void this.#connect())
    this.#delayMs = Math.min(this.#delayMs * 2, reconnectDelayMaxMs)
  }

  /** Asks the server for a sign of life: a connection that is silent for good looks like one without news. */
  async probe(): Promise<void> {
    const client = this.#client
    if (!client) return
    await client.query('SELECT 1').catch((error: unknown) => this.#lose(client, error as Error))
  }
}

/** Few, and waited for by people. */
const isPressing: ReadonlySet<Wake['kind']> = new Set(['cancel', 'outbox', 'access'] as const)

const keyOf = (wake: Wake): string =>
  wake.kind === 'ready' ? `r${wake.model}` : 'id' in wake ? `${wake.kind}${wake.id}` : wake.kind

type Message = {
  ready?: string[]
  cancel?: string[]
  changed?: [string, string | null][]
  outbox?: true
  access?: true
}

/** As few messages as the size of one allows. */
export function packWakes(wakes: readonly Wake[]): string[] {
  const messages: string[] = []
  let message: Message = {}
  let bytes = 60
  for (const wake of wakes) {
    const size =
      wake.kind === 'outbox' || wake.kind === 'access' ? 20 : Buffer.byteLength(JSON.stringify(wake))
    if (size > messageBytesMax / 2) continue
    if (bytes + size > messageBytesMax) {
      messages.push(JSON.stringify(message))
      message = {}
      bytes = 60
    }
    bytes += size
    if (wake.kind === 'ready') (message.ready ??= []).push(wake.model)
    else if (wake.kind === 'cancel') (message.cancel ??= []).push(wake.id)
    else if (wake.kind === 'changed') (message.changed ??= []).push([wake.id, wake.parent])
    else message[wake.kind] = true
  }
  if (bytes > 60) messages.push(JSON.stringify(message))
  return messages
}

/** Whatever comes over the channel: anyone with a login may send to it. */
export function unpackWakes(text: string): Wake[] {
  let message: Message
  try {
    message = JSON.parse(text) as Message
  } catch {
    return []
  }
  if (typeof message !== 'object' || message === null) return []
  const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : [])
  const texts = (value: unknown) => list(value).filter((item) => typeof item === 'string')
  return [
    ...texts(message.ready).map((model): Wake => ({ kind: 'ready', model })),
    ...texts(message.cancel).map((id): Wake => ({ kind: 'cancel', id })),
    ...list(message.changed).flatMap((pair): Wake[] => {
      const [id, parent] = list(pair)
      return typeof id === 'string'
        ? [{ kind: 'changed', id, parent: typeof parent === 'string' ? parent : null }]
        : []
    }),
    ...(message.outbox === true ? [{ kind: 'outbox' } as const] : []),
    ...(message.access === true ? [{ kind: 'access' } as const] : []),
  ]
}
