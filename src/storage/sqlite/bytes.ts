import type { Context } from './context.ts'

/** Numbered pieces, and cached answers. */

export function appendBlob(context: Context, id: string, pieces: readonly Uint8Array[]): number {
  const row = context.sql('SELECT max(number) AS last FROM blobs WHERE id = ?').get(id) as {
    last: number | null
  }
  let number = row.last ?? 0
  for (const piece of pieces) {
    number += 1
    context.sql('INSERT INTO blobs (id, number, bytes) VALUES (?, ?, ?)').run(id, number, piece)
  }
  return number
}

export const readBlob = (
  context: Context,
  id: string,
  after: number,
  limit: number,
): { number: number; bytes: Uint8Array }[] =>
  context
    .sql('SELECT number, bytes FROM blobs WHERE id = ? AND number > ? ORDER BY number LIMIT ?')
    .all(id, after, limit)
    .map((row) => ({ ...row }) as { number: number; bytes: Uint8Array })

export function removeBlob(context: Context, id: string): void {
  context.sql('DELETE FROM blobs WHERE id = ?').run(id)
}

type CacheEntry = {
  key: string
  tenant: string
  value: Uint8Array
  storedAtMs: number
  expiresAtMs: number
}

export function getCached(
  context: Context,
  key: string,
): Pick<CacheEntry, 'value' | 'storedAtMs' | 'expiresAtMs'> | null {
  const row = context
    .sql('SELECT value, stored_at AS storedAtMs, expires_at AS expiresAtMs FROM cache WHERE key = ?')
    .get(key) as Pick<CacheEntry, 'value' | 'storedAtMs' | 'expiresAtMs'> | undefined
  return row ? { ...row } : null
}

export function putCached(context: Context, entry: CacheEntry): void {
  dropCached(context, entry.key)
  const bytes = entry.value.byteLength
  context
    .sql('INSERT INTO cache (key, tenant, value, bytes, stored_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)')
    .run(entry.key, entry.tenant, entry.value, bytes, entry.storedAtMs, entry.expiresAtMs)
  context.tallies.change('cache', '', 0, { tasks: 1, bytes })
}

export function pruneCache(context: Context, nowMs: number, bytesMax: number, limit: number): number {
  const keys = (rows: unknown[]) => (rows as { key: string }[]).map(({ key }) => key)
  let removed = 0
  const drop = (key: string) => {
    dropCached(context, key)
    removed += 1
  }
  keys(
    context.sql('SELECT key FROM cache WHERE expires_at <= ? ORDER BY expires_at LIMIT ?').all(nowMs, limit),
  ).forEach(drop)
  if (context.tallies.of('cache', '', 0).bytes <= bytesMax) return removed
  const oldest = context.sql('SELECT key FROM cache ORDER BY stored_at LIMIT ?').all(limit - removed)
  for (const key of keys(oldest)) {
    if (context.tallies.of('cache', '', 0).bytes <= bytesMax) break
    drop(key)
  }
  return removed
}

function dropCached(context: Context, key: string): void {
  const row = context.sql('DELETE FROM cache WHERE key = ? RETURNING bytes').get(key) as
    { bytes: number } | undefined
  if (row) context.tallies.change('cache', '', 0, { tasks: -1, bytes: -row.bytes })
}
