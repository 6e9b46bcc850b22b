import type { LimitSettings } from '../../config/schema.ts'
import type { Clock } from '../../core/clock.ts'
import { fail } from '../../core/errors.ts'
import type { AccessStore, KeyRow } from '../../storage/access-store.ts'
import type { Permission } from './caller.ts'
import { drawKey, hashKey } from './key-text.ts'

export type NewKey = {
  tenant: string
  name: string
  roles: readonly Permission[]
  limits: LimitSettings | null
  expiresAtMs: number | null
}

const keysMax = 100_000
/** How long a key that has ended is still shown. */
const keepEndedMs = 90 * 86_400_000

/** The life of keys: made, shown, revoked. Used by the routes of administration and, past the server, by the CLI. */
export class KeyBook {
  readonly #access: AccessStore
  readonly #clock: Clock
  readonly #readSecret: () => Promise<string>

  constructor(parts: { access: AccessStore; clock: Clock; readSecret: () => Promise<string> }) {
    this.#access = parts.access
    this.#clock = parts.clock
    this.#readSecret = parts.readSecret
  }

  /** The key itself is nowhere but in this answer. */
  async create({ limits, ...given }: NewKey): Promise<{ key: KeyRow; text: string }> {
    const secret = await this.#readSecret()
    const nowMs = this.#clock.wallMs()
    for (;;) {
      const { id, text } = drawKey(secret)
      const key: KeyRow = {
        ...{ id, ...given, hash: hashKey(secret, text), revokedAtMs: null, createdAtMs: nowMs },
        limits: limits === null ? null : JSON.stringify(limits),
      }
      const outcome = await this.#access.insertKey(key, { keysMax, endedBeforeMs: nowMs - keepEndedMs })
      if (outcome === 'created') return { key, text }
      if (outcome === 'full') {
        throw fail('conflict', {
          message: `There are ${keysMax} keys already; those that were revoked or expired go after 90 days.`,
        })
      }
    }
  }

  /** Throws key_not_found. */
  async find(id: string): Promise<KeyRow> {
    const key = await this.#access.getKey(id)
    if (!key) throw fail('key_not_found')
    return key
  }

  list(query: { tenant?: string; after?: string; limit: number }): Promise<KeyRow[]> {
    return this.#access.listKeys(query)
  }

  /** Throws key_not_found. A key that was revoked before stays as it is. */
  async revoke(id: string): Promise<KeyRow> {
    const key = await this.#access.revokeKey(id, this.#clock.wallMs())
    if (!key) throw fail('key_not_found')
    return key
  }
}
