import type { BlobStore, CacheStore } from '../store.ts'
import { execute, type Database, type Statement } from './database.ts'
import { packBytes } from './values.ts'

const lockBlob: Statement = {
  name: 'lock_blob',
  text: `SELECT pg_advisory_xact_lock(hashtextextended('autoglm blob ' || $1, 0))`,
}

const append: Statement = {
  name: 'append_blob',
  text: `
    INSERT INTO blobs (id, number, bytes)
    SELECT $1, l.last + p.n, substring($2::bytea FROM p.start FOR p.length)
    FROM unnest($3::integer[], $4::integer[]) WITH ORDINALITY AS p (start, length, n),
      (SELECT coalesce(max(number), 0) AS last FROM blobs WHERE id = $1) AS l
    RETURNING number`,
}

const lastOf: Statement = {
  name: 'last_of_blob',
  text: 'SELECT coalesce(max(number), 0) AS number FROM blobs WHERE id = $1',
}

const read: Statement = {
  name: 'read_blob',
  text: 'SELECT number, bytes FROM blobs WHERE id = $1 AND number > $2 ORDER BY number LIMIT $3',
}

const remove: Statement = { name: 'remove_blob', text: 'DELETE FROM blobs WHERE id = $1' }

export class PostgresBlobs implements BlobStore {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  append(id: string, pieces: readonly Uint8Array[]): Promise<number> {
    const { bytes, places } = packBytes(pieces)
    let before: number | null = null
    return this.#database.transact(async (client, again) => {
      // Pieces are numbered one after another, by one writer at a time.
      await execute(client, lockBlob, [id])
      const [{ number: last } = { number: 0 }] = await execute<{ number: number }>(client, lastOf, [id])
      // The try before may have been committed: then the pieces are there already.
      if (again && before !== null && last >= before + pieces.length) return before + pieces.length
      before = last
      if (pieces.length > 0) {
        const starts = places.map(({ from }) => from)
        await execute(client, append, [id, bytes, starts, places.map(({ length }) => length)])
      }
      return last + pieces.length
    })
  }

  read(id: string, after: number, limit: number): Promise<{ number: number; bytes: Uint8Array }[]> {
    return this.#database.query(read, [id, after, limit])
  }

  async remove(id: string): Promise<void> {
    await this.#database.query(remove, [id])
  }
}

const getCached: Statement = {
  name: 'get_cached',
  text: 'SELECT value, stored_at AS "storedAtMs", expires_at AS "expiresAtMs" FROM cache WHERE key = $1',
}

const putCached: Statement = {
  name: 'put_cached',
  text: `
    INSERT INTO cache (key, tenant, value, bytes, stored_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (key) DO UPDATE SET tenant = excluded.tenant, value = excluded.value, bytes = excluded.bytes,
      stored_at = excluded.stored_at, expires_at = excluded.expires_at`,
}

const pruneExpired: Statement = {
  name: 'prune_expired_cache',
  text: `
    DELETE FROM cache WHERE key = ANY (ARRAY(
      SELECT key FROM cache WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING key`,
}

/** The sizes are read from the index alone. */
const pruneOldest: Statement = {
  name: 'prune_oldest_cache',
  text: `
    WITH total AS MATERIALIZED (SELECT coalesce(sum(bytes), 0) AS bytes FROM cache),
    oldest AS (
      SELECT key, sum(bytes) OVER (ORDER BY stored_at, key) - bytes AS before
      FROM (SELECT key, bytes, stored_at FROM cache WHERE (SELECT bytes FROM total) > $1
        ORDER BY stored_at, key LIMIT $2) AS o
    )
    DELETE FROM cache WHERE key = ANY (ARRAY(
      SELECT key FROM oldest WHERE before < (SELECT bytes FROM total) - $1)) RETURNING key`,
}

export class PostgresCache implements CacheStore {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  async get(key: string): Promise<{ value: Uint8Array; storedAtMs: number; expiresAtMs: number } | null> {
    const rows = await this.#database.query<{ value: Buffer; storedAtMs: number; expiresAtMs: number }>(
      getCached,
      [key],
    )
    return rows[0] ?? null
  }

  async put(entry: Parameters<CacheStore['put']>[0]): Promise<void> {
    const { key, tenant, value, storedAtMs, expiresAtMs } = entry
    const values = [key, tenant, Buffer.from(value), value.byteLength, storedAtMs, expiresAtMs]
    await this.#database.query(putCached, values)
  }

  async prune(nowMs: number, bytesMax: number, limit: number): Promise<number> {
    const expired = await this.#database.query(pruneExpired, [nowMs, limit])
    if (expired.length >= limit) return expired.length
    const oldest = await this.#database.query(pruneOldest, [bytesMax, limit - expired.length])
    return expired.length + oldest.length
  }
}
