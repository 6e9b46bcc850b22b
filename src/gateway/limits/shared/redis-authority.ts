import { createHash } from 'node:crypto'
import type { RedisClientType } from '@redis/client'
import {
  leaseMs,
  replicaTtlMs,
  slotsTtlMs,
  spareTtlMs,
  type Answer,
  type Ask,
  type AskItem,
  type Authority,
  type Result,
} from './authority.ts'
import { script } from './script.ts'

export type RedisAddress = {
  url: string
  /** Undefined takes what the URL says. */
  password: string | undefined
  /** Beginning of all keys. */
  prefix: string
}

const sha = createHash('sha1').update(script).digest('hex')
/** Asks that may wait on the connection: the client sends one after the other. */
const commandsMax = 64

/** Limits in Redis. The library is loaded with the first connection. */
export class RedisAuthority implements Authority {
  readonly title: string
  readonly #address: RedisAddress
  readonly #livingKey: string
  readonly #timeMs: () => string
  #client: RedisClientType | null = null

  /** `timeMs` stands in for the clock of the server in tests. */
  constructor(address: RedisAddress, timeMs?: () => number) {
    this.#address = address
    this.#timeMs = timeMs ? () => String(timeMs()) : () => ''
    this.title = `Redis at ${new URL(address.url).host}`
    this.#livingKey = this.#key('replicas')
  }

  async open(signal: AbortSignal): Promise<void> {
    this.close()
    const { createClient } = await import('@redis/client')
    signal.throwIfAborted()
    const { url, password } = this.#address
    const client = createClient({
      url,
      ...(password === undefined ? {} : { password }),
      name: 'open-autoglm',
      // Who is gone is gone: the caller decides when to try again, and nothing waits meanwhile.
      socket: { reconnectStrategy: false, connectTimeout: 5_000 },
      disableOfflineQueue: true,
      commandsQueueMaxLength: commandsMax,
      maintNotifications: 'disabled',
    }) as unknown as RedisClientType
    // Whatever happens to the connection, the command under way hears of it.
    client.on('error', () => {})
    const aborted = Promise.withResolvers<never>()
    const abort = () => {
      client.destroy()
      aborted.reject(signal.reason as Error)
    }
    signal.addEventListener('abort', abort, { once: true })
    try {
      await Promise.race([client.connect(), aborted.promise])
      this.#client = client
    } catch (error) {
      destroy(client)
      throw error
    } finally {
      signal.removeEventListener('abort', abort)
    }
  }

  async decide(ask: Ask): Promise<Answer> {
    const client = this.#client
    if (client === null) throw new Error('there is no connection')
    const options = {
      keys: [this.#livingKey, ...ask.items.map(({ key }) => this.#key(key))],
      arguments: [
        ...[ask.replica, String(replicaTtlMs), String(leaseMs), String(slotsTtlMs), String(spareTtlMs)],
        ...[ask.bye ? '1' : '0', this.#timeMs()],
        ...ask.items.flatMap(listArguments),
      ],
    }
    const reply = await client.evalSha(sha, options).catch((error: unknown) => {
      // A server that was started anew knows no script.
      if (error instanceof Error && error.message.startsWith('NOSCRIPT')) return client.eval(script, options)
      throw error
    })
    return readAnswer(reply as unknown as (number | string)[], ask.items.length)
  }

  close(): void {
    const client = this.#client
    this.#client = null
    if (client !== null) destroy(client)
  }

  /** All keys in one slot of a cluster: one script decides on several of them. */
  #key(name: string): string {
    return `{${this.#address.prefix}:limits}:${name}`
  }
}

function destroy(client: RedisClientType): void {
  try {
    client.destroy()
  } catch {
    // It was closed already.
  }
}

function listArguments(item: AskItem): string[] {
  if (item.kind === 'slots') {
    const { limit, held, need, want } = item
    return ['slots', ...[limit, held, need, want, 0, 0, 0, 0, 0, 0].map(String)]
  }
  const { capacity, rate, debtMax, spent, spentAgoMs, back, debit, least, need, want } = item
  const numbers = [capacity, rate, debtMax, spent, spentAgoMs, back, debit, least, need, want]
  return ['bucket', ...numbers.map(String)]
}

function readAnswer(reply: readonly (number | string)[], count: number): Answer {
  const results: Result[] = []
  for (let i = 0; i < count; i += 1) {
    const at = 2 + i * 3
    results.push({ granted: Number(reply[at]), held: Number(reply[at + 1]), level: Number(reply[at + 2]) })
  }
  return { replicas: Number(reply[0]), known: Number(reply[1]) === 1, results }
}
