import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import type { TenantPrune } from '../../src/storage/store.ts'
import type { WithStore } from './store.ts'
import {
  bytes,
  claimed,
  claimedOne,
  newTask,
  noLimits,
  settled,
  startMs,
  submitted,
  submittedOne,
  success,
} from './tasks.ts'

const forever = { finishedBeforeMs: 0, finishedMax: 1e9 }

export function describeRetention(withStore: WithStore): void {
  describe('what goes, and what stays', () => {
    it(
      'removes an ended task with all that belongs to it, and frees its key',
      withStore(async (store) => {
        const task = { idempotencyKey: 'k', fingerprint: 'f', notify: true, parent: 'batch_1', position: 1 }
        const { id } = await submittedOne(store, task)
        assert.equal(await store.tasks.remove('acme', id), 'live')
        const claim = await claimedOne(store)
        await store.tasks.saveStep(id, 1, { step: 0, attempt: 1, result: bytes('step') })
        assert.equal(await store.tasks.remove('acme', id), 'live')
        await settled(store, claim.task, success())
        assert.equal(await store.tasks.remove('acme', id), 'removed')
        assert.equal(await store.tasks.remove('acme', id), null)
        assert.equal(await store.tasks.get('acme', id), null)
        assert.equal(await store.tasks.eventsAfter(id, 0), null)
        assert.deepEqual(await store.tasks.results('batch_1', 0, 10), [])
        assert.deepEqual(await store.outbox.claim(startMs + 9e9, 1000, 10), [])
        assert.equal((await store.tasks.count('acme')).succeeded, 0)
        assert.equal((await submittedOne(store, task)).status, 'queued')
        assert.deepEqual(await store.maintenance.check(), [])
      }),
    )

    it(
      'prunes by age and by number, the oldest first, in steps, and never what is live',
      withStore(async (store) => {
        const rows = await submitted(store, ...Array.from({ length: 10 }, () => ({})))
        const ended = await claimed(store, { limit: 8 })
        for (const [index, { task }] of ended.entries()) {
          await settled(store, task, success(), startMs + index * 100)
        }
        await claimedOne(store)
        const left = async () =>
          (await store.tasks.list({ tenant: 'acme', ascending: true, limit: 100 })).map(({ id }) =>
            rows.findIndex((row) => row.id === id),
          )
        const prune = (finishedBeforeMs: number, finishedMax: number, limit: number) =>
          store.maintenance.prune({ finishedBeforeMs, finishedMax }, startMs, limit)
        assert.equal(await prune(0, 1e9, 100), 0)
        assert.equal(await prune(startMs + 300, 1e9, 2), 2)
        assert.deepEqual(await left(), [2, 3, 4, 5, 6, 7, 8, 9])
        assert.equal(await prune(startMs + 300, 1e9, 2), 1)
        assert.equal(await prune(startMs + 300, 1e9, 2), 0)
        assert.equal(await prune(0, 2, 2), 2)
        assert.equal(await prune(0, 2, 2), 1)
        assert.equal(await prune(0, 2, 2), 0)
        assert.deepEqual(await left(), [6, 7, 8, 9])
        assert.equal(await prune(startMs + 1e9, 0, 100), 2)
        assert.deepEqual(await left(), [8, 9])
        assert.deepEqual(await store.maintenance.check(), [])
      }),
    )

    it(
      'keeps the lines of a batch that is still open',
      withStore(async (store) => {
        await submitted(store, { parent: 'batch_1', position: 1 }, { parent: 'batch_2', position: 1 })
        const batch = {
          kind: 'batch',
          id: 'batch_1',
          tenant: 'acme',
          createdAtMs: startMs,
          expiresAtMs: null,
        }
        await store.documents.insert({ ...batch, open: true, data: '{}' })
        for (const { task } of await claimed(store, { limit: 2 })) await settled(store, task, success())
        const everything = { finishedBeforeMs: startMs + 1e9, finishedMax: 0 }
        assert.equal(await store.maintenance.prune(everything, startMs, 10), 1)
        assert.equal((await store.tasks.results('batch_1', 0, 10)).length, 1)
        await store.documents.update({ ...batch, version: 1, open: false, data: '{}' })
        assert.equal(await store.maintenance.prune(everything, startMs, 10), 1)
        assert.deepEqual(await store.tasks.results('batch_1', 0, 10), [])
      }),
    )

    it(
      'prunes the tasks of some tenants, or of all others, in steps that read little and go on where the last one ended',
      withStore(async (store) => {
        const tenants = ['a', 'b', 'c', 'a', 'b', 'c', 'a', 'b', 'c', 'a']
        const rows = await submitted(store, ...tenants.map((tenant) => ({ tenant })))
        const ended = await claimed(store, { limit: 9 })
        // Three ends in each moment: the place between two steps lies within one.
        for (const { task } of ended) {
          const index = rows.findIndex(({ id }) => id === task.id)
          await settled(store, task, success(), startMs + Math.floor(index / 3) * 100)
        }
        const left = async () => {
          const found = await Promise.all(rows.map(({ id }) => store.tasks.find(id)))
          return found.flatMap((row, index) => (row ? [index] : []))
        }
        const begin = { finishedAtMs: 0, tie: '' }
        const prune = (walk: Partial<TenantPrune>) =>
          store.maintenance.pruneTenants({
            ...{
              from: begin,
              beforeMs: startMs + 200,
              tenants: ['b'],
              whose: 'theirs',
              limit: 10,
              readMax: 10,
            },
            ...walk,
          })
        assert.deepEqual(await prune({ beforeMs: startMs }), { removed: 0, next: null })
        assert.deepEqual(await prune({ tenants: [] }), { removed: 0, next: null })
        assert.deepEqual(await prune({ tenants: ['z'] }), { removed: 0, next: null })

        const first = await prune({ limit: 1 })
        assert.equal(first.removed, 1)
        assert.deepEqual(await left(), [0, 2, 3, 4, 5, 6, 7, 8, 9])
        assert.deepEqual(await prune({ from: first.next! }), { removed: 1, next: null })
        assert.deepEqual(await left(), [0, 2, 3, 5, 6, 7, 8, 9], 'what ended at the moment itself stays')

        const read = await prune({ whose: 'others', tenants: ['a', 'b'], readMax: 1 })
        assert.equal(read.removed, 0)
        const more = await prune({ whose: 'others', tenants: ['a', 'b'], readMax: 3, from: read.next! })
        assert.equal(more.removed, 2)
        assert.deepEqual(await left(), [0, 3, 6, 7, 8, 9])
        // Whether anything follows is not known of a step that read as much as it might.
        assert.notEqual(more.next, null)
        const last = await prune({ whose: 'others', tenants: ['a', 'b'], readMax: 3, from: more.next! })
        assert.deepEqual(last, { removed: 0, next: null })

        const all = await prune({ whose: 'others', tenants: [], beforeMs: startMs + 1e9 })
        assert.deepEqual(all, { removed: 5, next: null })
        assert.deepEqual(await left(), [9], 'and never what is live')
        assert.deepEqual(await store.maintenance.check(), [])
      }),
    )

    it(
      'prunes no lines of an open batch for their tenant either',
      withStore(async (store) => {
        await submitted(store, { parent: 'batch_1', position: 1 }, { parent: 'batch_2', position: 1 })
        const batch = {
          ...{ kind: 'batch', id: 'batch_1', tenant: 'acme', createdAtMs: startMs },
          ...{ expiresAtMs: null, data: '{}' },
        }
        await store.documents.insert({ ...batch, open: true })
        for (const { task } of await claimed(store, { limit: 2 })) await settled(store, task, success())
        const prune = () =>
          store.maintenance.pruneTenants({
            ...{ from: { finishedAtMs: 0, tie: '' }, beforeMs: startMs + 1e9, limit: 10, readMax: 10 },
            ...{ tenants: ['acme'], whose: 'theirs' },
          })
        assert.deepEqual(await prune(), { removed: 1, next: null })
        assert.equal((await store.tasks.results('batch_1', 0, 10)).length, 1)
        await store.documents.update({ ...batch, version: 1, open: false })
        assert.deepEqual(await prune(), { removed: 1, next: null })
      }),
    )

    it(
      'removes documents that have expired, and their bytes',
      withStore(async (store) => {
        const file = (id: string, expiresAtMs: number | null) => ({
          kind: 'file',
          id,
          tenant: 'acme',
          createdAtMs: startMs,
          expiresAtMs,
          open: false,
          data: '{}',
        })
        await store.documents.insert(file('file_old', startMs + 10))
        await store.documents.insert(file('file_new', startMs + 11))
        await store.documents.insert(file('file_ever', null))
        await store.blobs.append('file_old', [bytes('x')])
        await store.blobs.append('file_new', [bytes('y')])
        assert.equal(await store.maintenance.prune(forever, startMs + 10, 10), 1)
        assert.equal(await store.documents.get('file', 'acme', 'file_old'), null)
        assert.deepEqual(await store.blobs.read('file_old', 0, 10), [])
        assert.equal((await store.blobs.read('file_new', 0, 10)).length, 1)
        assert.equal((await store.documents.list({ kind: 'file', tenant: 'acme', limit: 10 })).length, 2)
      }),
    )

    it(
      'goes on fairly after the lines were tidied up',
      withStore(async (store) => {
        await submitted(
          store,
          ...Array.from({ length: 50 }, (_, index) => ({ tenant: `t${index}`, cost: 5 })),
        )
        for (const { task } of await claimed(store, { limit: 40 })) await settled(store, task, success())
        await store.maintenance.prune({ finishedBeforeMs: startMs + 1e9, finishedMax: 0 }, startMs, 100)
        await submitted(store, { tenant: 'A' }, { tenant: 'A' }, { tenant: 'B' })
        const order = (await claimed(store, { limit: 20 })).map(({ task }) => task.tenant)
        assert.equal(order.length, 13)
        assert.ok(order.indexOf('B') < order.lastIndexOf('A'), order.join(' '))
      }),
    )

    it(
      'finds nothing wrong with itself, and says what it is',
      withStore(async (store) => {
        await store.tasks.submit(
          Array.from({ length: 20 }, (_, index) => newTask({ runAtMs: index % 2 ? startMs + 5 : null })),
          noLimits,
        )
        assert.deepEqual(await store.maintenance.check(), [])
        const { driver, schemaVersion, bytes } = await store.maintenance.describe()
        assert.match(driver, /^(sqlite|postgres)/)
        assert.ok(schemaVersion >= 1)
        assert.ok(bytes > 0)
      }),
    )

    it(
      'may be started and stopped twice',
      withStore(async (store) => {
        const { id } = await submittedOne(store)
        await store.start()
        await store.stop()
        await store.stop()
        await assert.rejects(store.tasks.find(id), { name: 'StoreUnavailable' })
        await store.start()
        assert.equal((await store.tasks.find(id))?.id, id)
      }),
    )
  })
}
