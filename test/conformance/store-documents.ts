import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import type { Document } from '../../src/storage/store.ts'
import type { WithStore } from './store.ts'
import { startMs } from './tasks.ts'

const newDocument = (id: string, more: Partial<Document> = {}): Omit<Document, 'version'> => ({
  kind: 'batch',
  id,
  tenant: 'acme',
  createdAtMs: startMs,
  expiresAtMs: null,
  open: false,
  data: '{"a":"ü \\u0041"}',
  ...more,
})

export function describeDocuments(withStore: WithStore): void {
  describe('documents', () => {
    it(
      'keeps them by kind and tenant',
      withStore(async ({ documents }) => {
        const document = newDocument('d1', { expiresAtMs: startMs + 5, open: true })
        assert.equal(await documents.insert(document), true)
        assert.equal(await documents.insert(newDocument('d1', { tenant: 'other' })), false, 'the id is taken')
        assert.equal(await documents.insert(newDocument('d1', { kind: 'file' })), true)
        assert.deepEqual(await documents.get('batch', 'acme', 'd1'), { ...document, version: 1 })
        assert.equal(await documents.get('batch', 'other', 'd1'), null)
        assert.equal(await documents.get('response', 'acme', 'd1'), null)
        assert.equal(await documents.remove('batch', 'other', 'd1'), false)
        assert.equal(await documents.remove('batch', 'acme', 'd1'), true)
        assert.equal(await documents.remove('batch', 'acme', 'd1'), false)
        assert.notEqual(await documents.get('file', 'acme', 'd1'), null)
      }),
    )

    it(
      'lets one of two writers through, and the other knows',
      withStore(async ({ documents }) => {
        await documents.insert(newDocument('d1'))
        const change = { kind: 'batch', id: 'd1', tenant: 'acme', expiresAtMs: startMs, open: true }
        const writes = await Promise.all(
          ['{"n":1}', '{"n":2}', '{"n":3}'].map((data) => documents.update({ ...change, version: 1, data })),
        )
        assert.equal(writes.filter(Boolean).length, 1)
        const stored = await documents.get('batch', 'acme', 'd1')
        assert.equal(stored?.version, 2)
        assert.equal(stored.data, `{"n":${writes.indexOf(true) + 1}}`)
        assert.equal(stored.open, true)
        assert.equal(stored.expiresAtMs, startMs)
        assert.equal(await documents.update({ ...change, version: 1, data: '{}' }), false)
        assert.equal(await documents.update({ ...change, version: 3, data: '{}' }), false)
        assert.equal(await documents.update({ ...change, tenant: 'other', version: 2, data: '{}' }), false)
        assert.equal(await documents.update({ ...change, version: 2, data: '{}' }), true)
      }),
    )

    it(
      'counts without losing one, when every writer reads and tries again',
      withStore(async ({ documents }) => {
        await documents.insert(newDocument('d1', { data: '0' }))
        const increment = async () => {
          for (;;) {
            const document = (await documents.get('batch', 'acme', 'd1'))!
            if (await documents.update({ ...document, data: String(Number(document.data) + 1) })) return
          }
        }
        await Promise.all(Array.from({ length: 12 }, increment))
        const document = await documents.get('batch', 'acme', 'd1')
        assert.equal(document?.data, '12')
        assert.equal(document.version, 13)
      }),
    )

    it(
      'lists pages of a tenant, and what is open of all',
      withStore(async ({ documents }) => {
        for (const id of ['d1', 'd2', 'd3', 'd4']) {
          await documents.insert(newDocument(id, { open: id > 'd2' }))
        }
        await documents.insert(newDocument('d0', { tenant: 'other', open: true }))
        await documents.insert(newDocument('d5', { kind: 'file', open: true }))
        const list = async (more: object) =>
          (await documents.list({ kind: 'batch', tenant: 'acme', limit: 2, ...more })).map(({ id }) => id)
        assert.deepEqual(await list({}), ['d4', 'd3'])
        assert.deepEqual(await list({ after: 'd3' }), ['d2', 'd1'])
        assert.deepEqual(await list({ ascending: true }), ['d1', 'd2'])
        assert.deepEqual(await list({ ascending: true, after: 'd2' }), ['d3', 'd4'])
        const open = async (limit: number) => (await documents.listOpen('batch', limit)).map(({ id }) => id)
        assert.deepEqual(await open(10), ['d0', 'd3', 'd4'])
        assert.deepEqual(await open(2), ['d0', 'd3'])
      }),
    )
  })
}
