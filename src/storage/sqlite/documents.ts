import type { Document } from '../store.ts'
import type { Context } from './context.ts'

type DocumentRow = {
  kind: string
  id: string
  tenant: string
  version: number
  created_at: number
  expires_at: number | null
  open: number
  data: string
}

const columns = 'kind, id, tenant, version, created_at, expires_at, open, data'

const toDocument = (row: DocumentRow): Document => ({
  kind: row.kind,
  id: row.id,
  tenant: row.tenant,
  version: row.version,
  createdAtMs: row.created_at,
  expiresAtMs: row.expires_at,
  open: row.open === 1,
  data: row.data,
})

export function insertDocument(context: Context, document: Omit<Document, 'version'>): boolean {
  const { kind, id, tenant, createdAtMs, expiresAtMs, open, data } = document
  const { changes } = context
    .sql(`INSERT INTO documents (${columns}) VALUES (?, ?, ?, 1, ?, ?, ?, ?) ON CONFLICT DO NOTHING`)
    .run(kind, id, tenant, createdAtMs, expiresAtMs, open ? 1 : 0, data)
  return Number(changes) === 1
}

export function getDocument(context: Context, kind: string, tenant: string, id: string): Document | null {
  const row = context
    .sql(`SELECT ${columns} FROM documents WHERE kind = ? AND id = ? AND tenant = ?`)
    .get(kind, id, tenant) as DocumentRow | undefined
  return row ? toDocument(row) : null
}

export function updateDocument(
  context: Context,
  document: Pick<Document, 'kind' | 'id' | 'tenant' | 'version' | 'expiresAtMs' | 'open' | 'data'>,
): boolean {
  const { kind, id, tenant, version, expiresAtMs, open, data } = document
  const { changes } = context
    .sql(
      `UPDATE documents SET version = version + 1, expires_at = ?, open = ?, data = ?
       WHERE kind = ? AND id = ? AND tenant = ? AND version = ?`,
    )
    .run(expiresAtMs, open ? 1 : 0, data, kind, id, tenant, version)
  return Number(changes) === 1
}

export function removeDocument(context: Context, kind: string, tenant: string, id: string): boolean {
  const { changes } = context
    .sql('DELETE FROM documents WHERE kind = ? AND id = ? AND tenant = ?')
    .run(kind, id, tenant)
  return Number(changes) === 1
}

export function listDocuments(
  context: Context,
  query: { kind: string; tenant: string; after?: string; ascending?: boolean; limit: number },
): Document[] {
  const { kind, tenant, after, ascending, limit } = query
  const behind = after === undefined ? '' : `AND id ${ascending ? '>' : '<'} ?`
  const rows = context
    .sql(
      `SELECT ${columns} FROM documents WHERE kind = ? AND tenant = ? ${behind}
       ORDER BY id ${ascending ? 'ASC' : 'DESC'} LIMIT ?`,
    )
    .all(kind, tenant, ...(after === undefined ? [] : [after]), limit) as unknown as DocumentRow[]
  return rows.map(toDocument)
}

export function listOpenDocuments(context: Context, kind: string, limit: number): Document[] {
  const rows = context
    .sql(`SELECT ${columns} FROM documents WHERE open = 1 AND kind = ? ORDER BY id LIMIT ?`)
    .all(kind, limit) as unknown as DocumentRow[]
  return rows.map(toDocument)
}
