import { Check, Clean, Default } from 'typebox/value'
import { LimitsEntry, permissions, type LimitSettings } from '../../config/schema.ts'
import { LruMap } from '../../core/bounded.ts'
import type { Clock } from '../../core/clock.ts'
import type { AccessStore, KeyRow } from '../../storage/access-store.ts'
import type { AccessWatch } from './access-watch.ts'
import type { Caller, Permission } from './caller.ts'
import { hashKey, isSame, readKeyId } from './key-text.ts'
import { badCredential } from './refusal.ts'
import type { Verified } from './verified.ts'

const rowsMax = 10_000

export type LiveKey = { caller: Caller; hash: string; expiresAtMs: number }

/** Says whose a key is, from the storage; what it has read it keeps until the key changes. */
export class KeyJudge {
  readonly #access: AccessStore
  readonly #watch: AccessWatch
  readonly #clock: Clock
  readonly #readSecret: () => Promise<string>
  readonly #rows = new LruMap<string, KeyRow>(rowsMax)

  constructor(parts: {
    access: AccessStore
    watch: AccessWatch
    clock: Clock
    readSecret: () => Promise<string>
  }) {
    this.#access = parts.access
    this.#watch = parts.watch
    this.#clock = parts.clock
    this.#readSecret = parts.readSecret
    this.#watch.listen({
      keys: (ids) => {
        if (ids === null) this.#rows.clear()
        else for (const id of ids) this.#rows.delete(id)
      },
    })
  }

  /** Throws unauthorized, and StoreUnavailable when the storage has to be asked and is away. */
  async judge(text: string): Promise<Verified> {
    const secret = await this.#readSecret()
    const id = readKeyId(secret, text)
    if (id === null) throw badCredential('This key is not known here.')
    const { caller, hash, expiresAtMs } = await this.findLive(id)
    if (!isSame(hash, hashKey(secret, text))) throw badCredential('This key is not known here.')
    return { caller, expiresAtMs, issuer: null }
  }

  /** The key of an id, if it is good now. */
  async findLive(id: string): Promise<LiveKey> {
    const row = await this.#read(id)
    if (!row) throw badCredential('This key is not known here.')
    if (row.revokedAtMs !== null) throw badCredential('The key has been revoked.')
    const expiresAtMs = row.expiresAtMs ?? Infinity
    if (expiresAtMs <= this.#clock.wallMs()) throw badCredential('The key has expired.')
    return { caller: toCaller(row), hash: row.hash, expiresAtMs }
  }

  async #read(id: string): Promise<KeyRow | null> {
    const kept = this.#rows.get(id)
    if (kept) return kept
    const { epoch } = this.#watch
    const row = await this.#access.getKey(id)
    if (row && epoch === this.#watch.epoch) this.#rows.set(id, row)
    return row
  }
}

const known = new Set<string>(permissions)

/** A role that this version does not know gives nothing. */
export const toRoles = (names: readonly string[]): ReadonlySet<Permission> =>
  new Set(names.filter((name): name is Permission => known.has(name)))

function toCaller({ id, tenant, roles, limits }: KeyRow): Caller {
  return { tenant, keyId: id, name: id, roles: toRoles(roles), limits: readLimits(limits) }
}

function readLimits(text: string | null): LimitSettings | null {
  if (text === null) return null
  // Another version may have stored fewer limits, or more.
  const limits = Default(LimitsEntry, Clean(LimitsEntry, JSON.parse(text)))
  if (Check(LimitsEntry, limits)) return limits
  throw new Error('the limits that are stored with a key are not limits')
}
