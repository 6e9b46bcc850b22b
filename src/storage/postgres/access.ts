import type pg from 'pg'
import type {
  AccessRevision,
  AccessStore,
  KeyInsertion,
  KeyRow,
  SecretKind,
  SecretRow,
  TenantRow,
} from '../access-store.ts'
import { execute, type Database, type Statement } from './database.ts'
import type { WakeLine } from './wakes.ts'

/** Keys, tenants and the secrets of servers. */

/** The row stays locked until the commit: revisions become visible in their order, and no reader passes one over. */
const touch: Statement = {
  name: 'touch_access',
  text: `
    INSERT INTO access_revisions (part, revision) VALUES ($1, 1)
    ON CONFLICT (part) DO UPDATE SET revision = access_revisions.revision + 1 RETURNING revision`,
}
const readRevisions: Statement = {
  name: 'access_revisions',
  text: 'SELECT part, revision FROM access_revisions',
}

const keyColumns = `id, tenant, name, hash, roles, limits, created_at AS "createdAtMs", expires_at AS "expiresAtMs",
  revoked_at AS "revokedAtMs"`
const pruneKeys: Statement = {
  name: 'prune_keys',
  text: `
    DELETE FROM access_keys WHERE id IN (
      SELECT id FROM access_keys WHERE revoked_at < $1 OR expires_at < $1 LIMIT 1000)`,
}
const countKeys: Statement = { name: 'count_keys', text: 'SELECT count(*) AS count FROM access_keys' }
const insertKey: Statement = {
  name: 'insert_key',
  text: 'INSERT INTO access_keys VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)',
}
const getKey: Statement = { name: 'get_key', text: `SELECT ${keyColumns} FROM access_keys WHERE id = $1` }
const lockKey: Statement = { name: 'lock_key', text: `${getKey.text} FOR UPDATE` }
const revokeKey: Statement = {
  name: 'revoke_key',
  text: 'UPDATE access_keys SET revoked_at = $2, revision = $3 WHERE id = $1',
}
const changedKeys: Statement = {
  name: 'changed_keys',
  text: 'SELECT id FROM access_keys WHERE revision > $1 ORDER BY revision LIMIT $2',
}

const listKeys = (name: string, conditions: string): Statement => ({
  name,
  text: `SELECT ${keyColumns} FROM access_keys ${conditions} ORDER BY created_at DESC, id DESC LIMIT $1`,
})
const older = (id: string) => `(created_at, id) < (SELECT created_at, id FROM access_keys WHERE id = ${id})`
const allKeys = listKeys('all_keys', '')
const allKeysAfter = listKeys('all_keys_after', `WHERE ${older('$2')}`)
const tenantKeys = listKeys('tenant_keys', 'WHERE tenant = $2')
const tenantKeysAfter = listKeys('tenant_keys_after', `WHERE tenant = $2 AND ${older('$3')}`)

const tenantColumns = 'name, settings, version, updated_at AS "updatedAtMs"'
const getTenant: Statement = {
  name: 'get_tenant',
  text: `SELECT ${tenantColumns} FROM access_tenants WHERE name = $1`,
}
const countTenants: Statement = {
  name: 'count_tenants',
  text: 'SELECT count(*) AS count FROM access_tenants',
}
const putTenant: Statement = {
  name: 'put_tenant',
  text: `
    INSERT INTO access_tenants (name, settings, version, updated_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (name) DO UPDATE
    SET settings = excluded.settings, version = excluded.version, updated_at = excluded.updated_at`,
}
const listTenants: Statement = {
  name: 'list_tenants',
  text: `SELECT ${tenantColumns} FROM access_tenants WHERE name > $1 ORDER BY name LIMIT $2`,
}
const removeTenant: Statement = {
  name: 'remove_tenant',
  text: 'DELETE FROM access_tenants WHERE name = $1 RETURNING name',
}

const insertSecret: Statement = {
  name: 'insert_secret',
  text: `
    INSERT INTO access_secrets (kind, number, id, algorithm, secret, created_at) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT DO NOTHING RETURNING number`,
}
const listSecrets: Statement = {
  name: 'list_secrets',
  text: `
    SELECT kind, number, id, algorithm, secret, created_at AS "createdAtMs" FROM access_secrets
    WHERE kind = $1 ORDER BY number DESC`,
}
const removeSecrets: Statement = {
  name: 'remove_secrets',
  text: 'DELETE FROM access_secrets WHERE kind = $1 AND number <= $2 RETURNING number',
}

type StoredKey = Omit<KeyRow, 'roles'> & { roles: string }
type Count = { count: number }

const toKey = ({ roles, ...row }: StoredKey): KeyRow => ({ ...row, roles: JSON.parse(roles) as string[] })

export class PostgresAccess implements AccessStore {
  readonly #database: Database
  readonly #wakes: WakeLine

  constructor(database: Database, wakes: WakeLine) {
    this.#database = database
    this.#wakes = wakes
  }

  async revision(): Promise<AccessRevision> {
    const rows = await this.#database.query<{ part: string; revision: number }>(readRevisions)
    const found = Object.fromEntries(rows.map(({ part, revision }) => [part, revision]))
    return { keys: 0, tenants: 0, secrets: 0, ...found }
  }

  insertKey(key: KeyRow, limits: { keysMax: number; endedBeforeMs: number }): Promise<KeyInsertion> {
    return this.#write('keys', async (client, revision, again) => {
      const [stored] = await execute<StoredKey>(client, getKey, [key.id])
      // What the try before has written is its own.
      if (stored) return again && stored.hash === key.hash ? 'created' : 'taken'
      await execute(client, pruneKeys, [limits.endedBeforeMs])
      const [{ count }] = (await execute<Count>(client, countKeys)) as [Count]
      if (count >= limits.keysMax) return 'full'
      const { id, tenant, name, hash, roles, createdAtMs, expiresAtMs, revokedAtMs } = key
      const times = [createdAtMs, expiresAtMs, revokedAtMs]
      const values = [id, tenant, name, hash, JSON.stringify(roles), key.limits, ...times, revision]
      await execute(client, insertKey, values)
      return 'created'
    })
  }

  async getKey(id: string): Promise<KeyRow | null> {
    const [row] = await this.#database.query<StoredKey>(getKey, [id])
    return row ? toKey(row) : null
  }

  async listKeys(query: { tenant?: string; after?: string; limit: number }): Promise<KeyRow[]> {
    const { tenant, after, limit } = query
    const statement =
      tenant === undefined
        ? after === undefined
          ? allKeys
          : allKeysAfter
        : after === undefined
          ? tenantKeys
          : tenantKeysAfter
    const given = [tenant, after].filter((value) => value !== undefined)
    return (await this.#database.query<StoredKey>(statement, [limit, ...given])).map(toKey)
  }

  revokeKey(id: string, nowMs: number): Promise<KeyRow | null> {
    return this.#write('keys', async (client, revision) => {
      const [row] = await execute<StoredKey>(client, lockKey, [id])
      if (!row || row.revokedAtMs !== null) return row ? toKey(row) : null
      await execute(client, revokeKey, [id, nowMs, revision])
      return { ...toKey(row), revokedAtMs: nowMs }
    })
  }

  async changedKeys(revision: number, limit: number): Promise<string[] | null> {
    const rows = await this.#database.query<{ id: string }>(changedKeys, [revision, limit + 1])
    return rows.length > limit ? null : rows.map(({ id }) => id)
  }

  putTenant(
    tenant: Omit<TenantRow, 'version'> & { version: number | null },
    tenantsMax: number,
  ): Promise<TenantRow | 'full' | null> {
    const { name, settings, updatedAtMs, version } = tenant
    return this.#write('tenants', async (client, _revision, again) => {
      const [row] = await execute<TenantRow>(client, getTenant, [name])
      const stored = row?.version ?? 0
      if (version !== null && version !== stored) {
        const isOwn = again && row?.version === version + 1 && row.settings === settings
        return isOwn ? row : null
      }
      if (!row) {
        const [{ count }] = (await execute<Count>(client, countTenants)) as [Count]
        if (count >= tenantsMax) return 'full'
      }
      await execute(client, putTenant, [name, settings, stored + 1, updatedAtMs])
      return { name, settings, version: stored + 1, updatedAtMs }
    })
  }

  listTenants({ after = '', limit }: { after?: string; limit: number }): Promise<TenantRow[]> {
    return this.#database.query(listTenants, [after, limit])
  }

  removeTenant(name: string): Promise<boolean> {
    return this.#write('tenants', async (client, _revision, again) => {
      const rows = await execute(client, removeTenant, [name])
      return rows.length > 0 || again
    })
  }

  insertSecret(row: SecretRow): Promise<boolean> {
    const { kind, number, id, algorithm, secret, createdAtMs } = row
    return this.#write('secrets', async (client, _revision, again) => {
      const values = [kind, number, id, algorithm, secret, createdAtMs]
      if ((await execute(client, insertSecret, values)).length > 0) return true
      const stored = await execute<SecretRow>(client, listSecrets, [kind])
      return again && stored.some((other) => other.number === number && other.id === id)
    })
  }

  listSecrets(kind: SecretKind): Promise<SecretRow[]> {
    return this.#database.query(listSecrets, [kind])
  }

  async removeSecrets(kind: SecretKind, upTo: number): Promise<void> {
    await this.#write('secrets', (client) => execute(client, removeSecrets, [kind, upTo]))
  }

  /** Writers of one part take turns: what one has read here still holds when it writes. */
  async #write<T>(
    part: keyof AccessRevision,
    work: (client: pg.ClientBase, revision: number, again: boolean) => Promise<T>,
  ): Promise<T> {
    const result = await this.#database.transact(async (client, again) => {
      const [{ revision }] = (await execute<{ revision: number }>(client, touch, [part])) as [
        { revision: number },
      ]
      return work(client, revision, again)
    })
    this.#wakes.tell([{ kind: 'access' }])
    return result
  }
}
