import type {
  AccessRevision,
  KeyInsertion,
  KeyRow,
  SecretKind,
  SecretRow,
  TenantRow,
} from '../access-store.ts'
import type { Context } from './context.ts'

/** Keys, tenants and the secrets of servers. */

type Part = keyof AccessRevision

const removedMax = 1_000

/** Counts a part up, tells of it, and says how often it has changed now. */
function touch(context: Context, part: Part): number {
  context.wakes.access()
  const { revision } = context
    .sql(
      `INSERT INTO access_revisions (part, revision) VALUES (?, 1)
       ON CONFLICT (part) DO UPDATE SET revision = revision + 1 RETURNING revision`,
    )
    .get(part) as { revision: number }
  return revision
}

export function accessRevision(context: Context): AccessRevision {
  const rows = context.sql('SELECT part, revision FROM access_revisions').all()
  const found = Object.fromEntries(rows.map(({ part, revision }) => [part, revision]))
  return { keys: 0, tenants: 0, secrets: 0, ...found }
}

type StoredKey = Omit<KeyRow, 'roles'> & { roles: string }

const keyColumns = `id, tenant, name, hash, roles, limits, created_at AS createdAtMs, expires_at AS expiresAtMs,
  revoked_at AS revokedAtMs`

const toKey = ({ roles, ...row }: StoredKey): KeyRow => ({
  ...row,
  roles: JSON.parse(roles) as string[],
})

export function insertKey(
  context: Context,
  key: KeyRow,
  { keysMax, endedBeforeMs }: { keysMax: number; endedBeforeMs: number },
): KeyInsertion {
  context
    .sql(
      `DELETE FROM access_keys WHERE id IN (
         SELECT id FROM access_keys WHERE revoked_at < ?1 OR expires_at < ?1 LIMIT ${removedMax})`,
    )
    .run(endedBeforeMs)
  const { count } = context.sql('SELECT count(*) AS count FROM access_keys').get() as { count: number }
  if (count >= keysMax) return 'full'
  if (getKey(context, key.id)) return 'taken'
  const { id, tenant, name, hash, roles, limits, createdAtMs, expiresAtMs, revokedAtMs } = key
  const times = [createdAtMs, expiresAtMs, revokedAtMs]
  context
    .sql('INSERT INTO access_keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)')
    .run(id, tenant, name, hash, JSON.stringify(roles), limits, ...times, touch(context, 'keys'))
  return 'created'
}

export function getKey(context: Context, id: string): KeyRow | null {
  const row = context.sql(`SELECT ${keyColumns} FROM access_keys WHERE id = ?`).get(id)
  return row ? toKey(row as StoredKey) : null
}

export function listKeys(
  context: Context,
  { tenant, after, limit }: { tenant?: string; after?: string; limit: number },
): KeyRow[] {
  const conditions = [
    ...(tenant === undefined ? [] : ['tenant = ?']),
    ...(after === undefined
      ? []
      : ['(created_at, id) < (SELECT created_at, id FROM access_keys WHERE id = ?)']),
  ]
  const given = [tenant, after].filter((value) => value !== undefined)
  const rows = context
    .sql(
      `SELECT ${keyColumns} FROM access_keys ${conditions.length === 0 ? '' : `WHERE ${conditions.join(' AND ')}`}
       ORDER BY created_at DESC, id DESC LIMIT ?`,
    )
    .all(...given, limit)
  return rows.map((row) => toKey(row as StoredKey))
}

export function revokeKey(context: Context, id: string, nowMs: number): KeyRow | null {
  const key = getKey(context, id)
  if (!key || key.revokedAtMs !== null) return key
  context
    .sql('UPDATE access_keys SET revoked_at = ?, revision = ? WHERE id = ?')
    .run(nowMs, touch(context, 'keys'), id)
  return { ...key, revokedAtMs: nowMs }
}

export function changedKeys(context: Context, revision: number, limit: number): string[] | null {
  const rows = context
    .sql('SELECT id FROM access_keys WHERE revision > ? ORDER BY revision LIMIT ?')
    .all(revision, limit + 1) as { id: string }[]
  return rows.length > limit ? null : rows.map(({ id }) => id)
}

const tenantColumns = 'name, settings, version, updated_at AS updatedAtMs'

export function putTenant(
  context: Context,
  { name, settings, updatedAtMs, version }: Omit<TenantRow, 'version'> & { version: number | null },
  tenantsMax: number,
): TenantRow | 'full' | null {
  const row = context.sql('SELECT version FROM access_tenants WHERE name = ?').get(name)
  const stored = (row as { version: number } | undefined)?.version ?? 0
  if (version !== null && version !== stored) return null
  if (stored === 0) {
    const { count } = context.sql('SELECT count(*) AS count FROM access_tenants').get() as { count: number }
    if (count >= tenantsMax) return 'full'
  }
  context
    .sql(
      `INSERT INTO access_tenants (name, settings, version, updated_at) VALUES (?, ?, ?, ?)
       ON CONFLICT (name) DO UPDATE
       SET settings = excluded.settings, version = excluded.version, updated_at = excluded.updated_at`,
    )
    .run(name, settings, stored + 1, updatedAtMs)
  touch(context, 'tenants')
  return { name, settings, version: stored + 1, updatedAtMs }
}

export function listTenants(
  context: Context,
  { after = '', limit }: { after?: string; limit: number },
): TenantRow[] {
  return context
    .sql(`SELECT ${tenantColumns} FROM access_tenants WHERE name > ? ORDER BY name LIMIT ?`)
    .all(after, limit)
    .map((row) => ({ ...row }) as TenantRow)
}

export function removeTenant(context: Context, name: string): boolean {
  const { changes } = context.sql('DELETE FROM access_tenants WHERE name = ?').run(name)
  if (Number(changes) === 0) return false
  touch(context, 'tenants')
  return true
}

export function insertSecret(context: Context, row: SecretRow): boolean {
  const { kind, number, id, algorithm, secret, createdAtMs } = row
  const { changes } = context
    .sql('INSERT INTO access_secrets VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING')
    .run(kind, number, id, algorithm, secret, createdAtMs)
  if (Number(changes) === 0) return false
  touch(context, 'secrets')
  return true
}

export function listSecrets(context: Context, kind: SecretKind): SecretRow[] {
  return context
    .sql(
      `SELECT kind, number, id, algorithm, secret, created_at AS createdAtMs FROM access_secrets
       WHERE kind = ? ORDER BY number DESC`,
    )
    .all(kind)
    .map((row) => ({ ...row }) as SecretRow)
}

export function removeSecrets(context: Context, kind: SecretKind, upTo: number): void {
  const { changes } = context.sql('DELETE FROM access_secrets WHERE kind = ? AND number <= ?').run(kind, upTo)
  if (Number(changes) > 0) touch(context, 'secrets')
}
