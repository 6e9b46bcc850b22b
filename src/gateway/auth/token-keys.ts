import {
  calculateJwkThumbprint,
  errors,
  exportJWK,
  generateKeyPair,
  importJWK,
  type CryptoKey,
  type JWK,
} from 'jose'
import type { Clock } from '../../core/clock.ts'
import type { Service } from '../../core/service.ts'
import type { AccessStore, SecretRow } from '../../storage/access-store.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { AccessWatch } from './access-watch.ts'
import { planTokenKeys, type TokenKeyRules } from './token-key-plan.ts'

export const tokenAlgorithm = 'ES256'
const tendEveryMs = 60_000
/** A token of a key that was made a moment ago elsewhere; asked for no more often than this. */
const lookAgainMs = 250

type TokenKey = { row: SecretRow; verifies: CryptoKey; signs: CryptoKey; published: JWK }

/** The keys that sign this server's own tokens, shared with other servers through the storage. */
export class TokenKeys implements Service {
  readonly name = 'token keys'
  readonly #access: AccessStore
  readonly #watch: AccessWatch
  readonly #clock: Clock
  readonly #log: Logger
  readonly #rules: TokenKeyRules
  #keys: readonly TokenKey[] = []
  #lookedAtMs = -Infinity
  #looking: Promise<void> | null = null
  #reading: Promise<void> = Promise.resolve()
  #stopTending = () => {}

  constructor(parts: {
    access: AccessStore
    watch: AccessWatch
    clock: Clock
    log: Logger
    rules: TokenKeyRules
  }) {
    this.#access = parts.access
    this.#watch = parts.watch
    this.#clock = parts.clock
    this.#log = parts.log
    this.#rules = parts.rules
    this.#watch.listen({ secrets: () => this.#read() })
  }

  start(): Promise<void> {
    this.#stopTending()
    this.#stopTending = this.#clock.every(tendEveryMs, () => void this.#tendInTime())
    return Promise.resolve()
  }

  stop(): Promise<void> {
    this.#stopTending()
    return Promise.resolve()
  }

  /** The public keys, for /.well-known/jwks.json. */
  get published(): readonly JWK[] {
    return this.#keys.map(({ published }) => published)
  }

  /** The key that signs now; the first token of all makes it. */
  async findSigning(): Promise<{ kid: string; key: CryptoKey }> {
    try {
      await this.#tend()
    } catch (error) {
      // The next key can wait while there is one that signs.
      if (this.#keys.length === 0) throw error
    }
    const { signWith } = this.#plan()
    const found = this.#keys.find(({ row }) => row.number === signWith?.number)
    if (!found) throw new Error('there is no key to sign tokens with')
    return { kid: found.row.id, key: found.signs }
  }

  async findVerifying(kid: string | undefined): Promise<CryptoKey> {
    const known = this.#find(kid)
    if (known) return known
    await this.#look()
    const found = this.#find(kid)
    if (found) return found
    throw new errors.JWKSNoMatchingKey()
  }

  /** Looks for new keys, unless that was done a moment ago. Those who come meanwhile wait for the same. */
  #look(): Promise<void> {
    if (this.#looking) return this.#looking
    if (this.#clock.now() - this.#lookedAtMs < lookAgainMs) return Promise.resolve()
    this.#lookedAtMs = this.#clock.now()
    this.#looking = this.#watch.refresh().finally(() => {
      this.#looking = null
    })
    return this.#looking
  }

  #find(kid: string | undefined): CryptoKey | undefined {
    return this.#keys.find(({ row }) => row.id === kid)?.verifies
  }

  #plan() {
    const rows = this.#keys.map(({ row }) => row)
    return planTokenKeys(rows, this.#rules, this.#clock.wallMs())
  }

  /** While nobody asks for tokens, the next key is made all the same: it must be known before it signs. */
  async #tendInTime(): Promise<void> {
    if (this.#keys.length === 0) return
    await this.#tend().catch((error: unknown) =>
      this.#log.warn({ err: error }, 'the keys that sign tokens could not be looked after'),
    )
  }

  async #tend(): Promise<void> {
    const { make, removeUpTo } = this.#plan()
    if (make === null && removeUpTo === 0) return
    if (make !== null) await this.#access.insertSecret(await drawTokenKey(make, this.#clock.wallMs()))
    if (removeUpTo > 0) await this.#access.removeSecrets('token', removeUpTo)
    await this.#read()
  }

  /** One after the other: what an earlier look has found must not take the place of what a later one has. */
  #read(): Promise<void> {
    const read = this.#reading.then(() => this.#readNow())
    this.#reading = read.catch(() => {})
    return read
  }

  async #readNow(): Promise<void> {
    const rows = await this.#access.listSecrets('token')
    const before = new Map(this.#keys.map((key) => [key.row.id, key]))
    this.#keys = await Promise.all(rows.map(async (row) => before.get(row.id) ?? importRow(row)))
  }
}

async function drawTokenKey(number: number, nowMs: number): Promise<SecretRow> {
  const { privateKey } = await generateKeyPair(tokenAlgorithm, { extractable: true })
  const jwk = await exportJWK(privateKey)
  return {
    ...{ kind: 'token', number, id: await calculateJwkThumbprint(jwk), algorithm: tokenAlgorithm },
    ...{ secret: JSON.stringify(jwk), createdAtMs: nowMs },
  }
}

async function importRow(row: SecretRow): Promise<TokenKey> {
  const { d, ...publicPart } = JSON.parse(row.secret) as JWK & { d: string }
  return {
    row,
    signs: (await importJWK({ ...publicPart, d }, row.algorithm)) as CryptoKey,
    verifies: (await importJWK(publicPart, row.algorithm)) as CryptoKey,
    published: { ...publicPart, kid: row.id, alg: row.algorithm, use: 'sig' },
  }
}
