import { readFile, stat } from 'node:fs/promises'
import { errors, type CryptoKey, type ProtectedHeaderParameters } from 'jose'
import type { Clock } from '../../core/clock.ts'
import { SetupError } from '../../core/errors.ts'
import type { Logger } from '../../telemetry/log.ts'
import { keySetBytesMax, parseKeySet, type KeySet } from './key-set.ts'

/** How often the file is looked at, at most. */
const lookEveryMs = 1_000

export type KeyFileOptions = {
  issuer: string
  path: string
  clock: Clock
  log: Logger
  /** Told when other keys were read than before. */
  onChange: () => void
}

/** The keys of an issuer in a file, which is read again when it changes. A broken one changes nothing. */
export class KeyFile {
  readonly #options: KeyFileOptions
  #keys: KeySet | null = null
  #stamp = ''
  #lookedAtMs = -Infinity
  #looking: Promise<void> | null = null

  constructor(options: KeyFileOptions) {
    this.#options = options
  }

  /** Throws SetupError when there are no keys to begin with. */
  async start(): Promise<void> {
    const { issuer, path } = this.#options
    try {
      await this.#read()
    } catch (error) {
      throw new SetupError(
        `auth.issuers: the keys of ${JSON.stringify(issuer)} can't be read from ${path}: ${(error as Error).message}`,
      )
    }
  }

  async find(header: ProtectedHeaderParameters): Promise<CryptoKey> {
    await this.#look()
    if (!this.#keys) throw new errors.JWKSNoMatchingKey()
    return this.#keys.find(header)
  }

  #look(): Promise<void> {
    const { clock, issuer, path, log } = this.#options
    if (this.#looking) return this.#looking
    if (clock.now() - this.#lookedAtMs < lookEveryMs) return Promise.resolve()
    this.#lookedAtMs = clock.now()
    this.#looking = this.#read()
      .catch((error: unknown) => {
        log.warn(
          { issuer, path, reason: (error as Error).message },
          'the keys of an issuer could not be read',
        )
      })
      .finally(() => {
        this.#looking = null
      })
    return this.#looking
  }

  async #read(): Promise<void> {
    const { path, onChange } = this.#options
    const { mtimeMs, size, ino } = await stat(path)
    const stamp = `${mtimeMs} ${size} ${ino}`
    if (stamp === this.#stamp) return
    if (size > keySetBytesMax) throw new Error(`it is larger than ${keySetBytesMax} bytes`)
    const keys = parseKeySet(await readFile(path, 'utf8'))
    const changed = this.#keys !== null && this.#keys.text !== keys.text
    this.#keys = keys
    this.#stamp = stamp
    if (changed) onChange()
  }
}
