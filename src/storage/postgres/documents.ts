import type { Document, DocumentStore } from '../store.ts'
import type { Database, Statement } from './database.ts'

const columns = `kind, id, tenant, version, created_at AS "createdAtMs", expires_at AS "expiresAtMs", open, data`

/** `again`: the row of a try whose answer was lost counts as this one's own. */
const insert: Statement = {
  name: 'insert_document',
  text: `
    INSERT INTO documents (kind, id, tenant, created_at, expires_at, open, data) VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT DO NOTHING RETURNING id`,
}

const update: Statement = {
  name: 'update_document',
  text: `
    UPDATE documents SET version = version + 1, expires_at = $5, open = $6, data = $7
    WHERE kind = $1 AND id = $2 AND tenant = $3 AND version = $4 RETURNING id`,
}

/** Whether a document is as a write whose answer was lost would have left it. */
const isWritten: Statement = {
  name: 'document_is_written',
  text: `
    SELECT id FROM documents WHERE kind = $1 AND id = $2 AND tenant = $3 AND version = $4
      AND expires_at IS NOT DISTINCT FROM $5 AND open = $6 AND data = $7`,
}

const remove: Statement = {
  name: 'remove_document',
  text: 'DELETE FROM documents WHERE kind = $1 AND tenant = $2 AND id = $3 RETURNING id',
}

const get: Statement = {
  name: 'get_document',
  text: `SELECT ${columns} FROM documents WHERE kind = $1 AND tenant = $2 AND id = $3`,
}

const list = (name: string, after: string, direction: string): Statement => ({
  name,
  text: `
    SELECT ${columns} FROM documents WHERE kind = $1 AND tenant = $2 ${after} ORDER BY id ${direction} LIMIT $3`,
})
const newest = list('newest_documents', '', 'DESC')
const newestAfter = list('newest_documents_after', 'AND id < $4', 'DESC')
const oldest = list('oldest_documents', '', 'ASC')
const oldestAfter = list('oldest_documents_after', 'AND id > $4', 'ASC')

const listOpen: Statement = {
  name: 'open_documents',
  text: `SELECT ${columns} FROM documents WHERE kind = $1 AND open ORDER BY id LIMIT $2`,
}

export class PostgresDocuments implements DocumentStore {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  insert(document: Omit<Document, 'version'>): Promise<boolean> {
    const { kind, id, tenant, createdAtMs, expiresAtMs, open, data } = document
    const values = [kind, id, tenant, createdAtMs, expiresAtMs, open, data]
    return this.#write(insert, values, [kind, id, tenant, 1, expiresAtMs, open, data])
  }

  async get(kind: string, tenant: string, id: string): Promise<Document | null> {
    const [row] = await this.#database.query<Document>(get, [kind, tenant, id])
    return row ?? null
  }

  update(
    document: Pick<Document, 'kind' | 'id' | 'tenant' | 'version' | 'expiresAtMs' | 'open' | 'data'>,
  ): Promise<boolean> {
    const { kind, id, tenant, version, expiresAtMs, open, data } = document
    const values = [kind, id, tenant, version, expiresAtMs, open, data]
    return this.#write(update, values, [kind, id, tenant, version + 1, expiresAtMs, open, data])
  }

  async remove(kind: string, tenant: string, id: string): Promise<boolean> {
    return (await this.#database.query(remove, [kind, tenant, id])).length > 0
  }

  list(query: {
    kind: string
    tenant: string
    after?: string
    ascending?: boolean
    limit: number
  }): Promise<Document[]> {
    const { kind, tenant, after, ascending, limit } = query
    if (after === undefined) return this.#database.query(ascending ? oldest : newest, [kind, tenant, limit])
    return this.#database.query(ascending ? oldestAfter : newestAfter, [kind, tenant, limit, after])
  }

  listOpen(kind: string, limit: number): Promise<Document[]> {
    return this.#database.query(listOpen, [kind, limit])
  }

  /** The first answer of the database may be lost with its connection: the document itself then tells. */
  #write(statement: Statement, values: readonly unknown[], written: readonly unknown[]): Promise<boolean> {
    return this.#database.transact(async (client, again) => {
      const rows = await client.query({ ...statement, values: [...values] })
      if (rows.rowCount !== 0 || !again) return rows.rowCount !== 0
      return (await client.query({ ...isWritten, values: [...written] })).rowCount !== 0
    })
  }
}
