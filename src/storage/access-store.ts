/** The part of the port that keeps who may come in: keys, tenants and the secrets of the server. */

/** A key as it is kept: never itself, only what it hashes to under the server's secret. */
export type KeyRow = {
  id: string
  tenant: string
  name: string
  hash: string
  roles: readonly string[]
  /** JSON; null for none of its own. */
  limits: string | null
  createdAtMs: number
  expiresAtMs: number | null
  revokedAtMs: number | null
}

/** What is known of a tenant: `settings` is JSON. `version` is 1 at first, then counted up. */
export type TenantRow = { name: string; settings: string; version: number; updatedAtMs: number }

export type SecretKind = 'key-hash' | 'token'

/** Something that only servers may know. Secrets of a kind are numbered from 1: the next takes over from the last. */
export type SecretRow = {
  kind: SecretKind
  number: number
  /** The name by which others call it. */
  id: string
  algorithm: string
  /** A JWK, or base64url. */
  secret: string
  createdAtMs: number
}

/** How often each part has changed: every write counts its part up, in its own transaction. */
export type AccessRevision = { keys: number; tenants: number; secrets: number }

/** Who may come in. Written seldom and read all the time: who reads keeps what was read until a revision moves. */
export interface AccessStore {
  revision(): Promise<AccessRevision>
  /**
   * `taken` when the id is there already, `full` when there are `keysMax`. Keys that have expired or were revoked before
   * `endedBeforeMs` are removed on the way, a thousand at most.
   */
  insertKey(key: KeyRow, limits: { keysMax: number; endedBeforeMs: number }): Promise<KeyInsertion>
  getKey(id: string): Promise<KeyRow | null>
  /** Newest first, those older than the key `after`. */
  listKeys(query: { tenant?: string; after?: string; limit: number }): Promise<KeyRow[]>
  /** Null when unknown. Revoked already: unchanged. */
  revokeKey(id: string, nowMs: number): Promise<KeyRow | null>
  /** The ids of keys that were written after this revision; null when they are more than `limit`. */
  changedKeys(revision: number, limit: number): Promise<string[] | null>
  /**
   * `version` is the one that was seen, 0 for a new tenant, null for whatever is there. Null when another is stored;
   * `full` when it would be one more than `tenantsMax`.
   */
  putTenant(
    tenant: Omit<TenantRow, 'version'> & { version: number | null },
    tenantsMax: number,
  ): Promise<TenantRow | 'full' | null>
  /** By name, those after the one given. */
  listTenants(query: { after?: string; limit: number }): Promise<TenantRow[]>
  removeTenant(name: string): Promise<boolean>
  /** False when the number is taken: another server was faster. */
  insertSecret(secret: SecretRow): Promise<boolean>
  /** All of a kind, the newest first. */
  listSecrets(kind: SecretKind): Promise<SecretRow[]>
  /** Removes those of a kind up to this number. */
  removeSecrets(kind: SecretKind, upTo: number): Promise<void>
}

export type KeyInsertion = 'created' | 'taken' | 'full'
