import { errors, type CryptoKey, type ProtectedHeaderParameters } from 'jose'
import type { Clock } from '../../core/clock.ts'
import { fail } from '../../core/errors.ts'
import type { Logger } from '../../telemetry/log.ts'
import { keySetBytesMax, parseKeySet, type KeySet } from './key-set.ts'

const timeoutMs = 5_000
/** Keys older than this are read again while the old ones go on. */
const freshForMs = 600_000
/** A token with an unknown `kid` causes no more than one request in this time, whoever sends how many. */
const askAgainMs = 10_000
/** The same while nothing is known at all. */
const retryMs = 1_000
/** Tokens that wait for one look. A source that hangs must not hold all places of those who are being looked at. */
const waitingMax = 200

export type KeyUrlOptions = {
  issuer: string
  url: string
  clock: Clock
  log: Logger
  /** Told when other keys were read than before. */
  onChange: () => void
}

/** The keys of an issuer behind a URL. Once read they stay, whatever becomes of the URL, until others are read. */
export class KeyUrl {
  readonly #options: KeyUrlOptions
  #keys: KeySet | null = null
  #readAtMs = -Infinity
  #triedAtMs = -Infinity
  #reading: Promise<void> | null = null
  #waiting = 0

  constructor(options: KeyUrlOptions) {
    this.#options = options
  }

  /** Throws issuer_unavailable while no keys are known, and what the library throws for a key that is not there. */
  async find(header: ProtectedHeaderParameters): Promise<CryptoKey> {
    const { clock } = this.#options
    if (!this.#keys) await this.#waitFor(this.#readWithin(retryMs))
    if (!this.#keys) {
      throw fail('issuer_unavailable', { retryAfterMs: retryMs })
    }
    if (clock.now() - this.#readAtMs > freshForMs) void this.#readWithin(askAgainMs)
    try {
      return await this.#findNow(header)
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error
      const before = this.#readAtMs
      await this.#waitFor(this.#readWithin(askAgainMs))
      if (this.#readAtMs === before) throw error
      return this.#findNow(header)
    }
  }

  async #waitFor(reading: Promise<void>): Promise<void> {
    if (this.#waiting >= waitingMax) throw fail('issuer_unavailable', { retryAfterMs: retryMs })
    this.#waiting += 1
    await reading
    this.#waiting -= 1
  }

  #findNow(header: ProtectedHeaderParameters): Promise<CryptoKey> {
    return this.#keys!.find(header)
  }

  /** Reads the keys, unless that was tried less than `pauseMs` ago. Those who come meanwhile wait for the same. */
  #readWithin(pauseMs: number): Promise<void> {
    if (this.#reading) return this.#reading
    const { clock } = this.#options
    if (clock.now() - this.#triedAtMs < pauseMs) return Promise.resolve()
    this.#triedAtMs = clock.now()
    this.#reading = this.#read().finally(() => {
      this.#reading = null
    })
    return this.#reading
  }

  async #read(): Promise<void> {
    const { issuer, url, clock, log, onChange } = this.#options
    const cut = new AbortController()
    const cancel = clock.after(timeoutMs, () =>
      cut.abort(new Error(`no answer within ${timeoutMs / 1_000} s`)),
    )
    try {
      const keys = parseKeySet(await fetchText(url, cut.signal))
      const changed = this.#keys !== null && this.#keys.text !== keys.text
      this.#keys = keys
      this.#readAtMs = clock.now()
      if (changed) onChange()
    } catch (error) {
      const { message, cause } = error as Error
      const reason = (cause as { message?: string } | undefined)?.message ?? message
      log.warn({ issuer, reason, known: this.#keys !== null }, 'the keys of an issuer could not be read')
    } finally {
      cancel()
    }
  }
}

/** A redirect could lead anywhere, so it is none of an answer. */
async function fetchText(url: string, signal: AbortSignal): Promise<string> {
  const headers = { accept: 'application/jwk-set+json, application/json' }
  const response = await fetch(url, { redirect: 'error', headers, signal })
  if (!response.ok || !response.body) {
    await response.body?.cancel()
    throw new Error(`it answered ${response.status}`)
  }
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
    bytes += chunk.byteLength
    if (bytes > keySetBytesMax) throw new Error(`it is larger than ${keySetBytesMax} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}
