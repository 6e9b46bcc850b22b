import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import type { NewTask } from '../../src/storage/task-store.ts'
import type { WithStore } from './store.ts'
import {
  claimed,
  claimedOne,
  failure,
  newTask,
  noLimits,
  settled,
  startMs,
  submitted,
  success,
} from './tasks.ts'

export function describeFairness(withStore: WithStore): void {
  describe('the order', () => {
    it(
      'lets ten of B through while A has ten thousand waiting',
      withStore(async (store) => {
        const many = Array.from({ length: 10_000 }, () => newTask({ tenant: 'A', cost: 100 }))
        for (let start = 0; start < many.length; start += 1000) {
          await store.tasks.submit(many.slice(start, start + 1000), noLimits)
        }
        await submitted(store, ...Array.from({ length: 10 }, () => ({ tenant: 'B', cost: 100 })))
        const tenants: string[] = []
        for (let call = 0; call < 5; call += 1) {
          tenants.push(...(await claimed(store, { limit: 5 })).map(({ task }) => task.tenant))
        }
        assert.equal(tenants.filter((tenant) => tenant === 'B').length, 10, tenants.join(''))
      }),
    )

    it(
      'shares turns by cost: one of 300 tokens for three of 100',
      withStore(async (store) => {
        await submitted(
          store,
          ...Array.from({ length: 30 }, () => ({ tenant: 'large', cost: 300 })),
          ...Array.from({ length: 30 }, () => ({ tenant: 'small', cost: 100 })),
        )
        const first = (await claimed(store, { limit: 20 })).map(({ task }) => task.tenant)
        assert.equal(first.filter((tenant) => tenant === 'large').length, 5, first.join(' '))
      }),
    )

    it(
      'gives no credit for having been away',
      withStore(async (store) => {
        await submitted(store, { tenant: 'B' })
        await claimedOne(store)
        await submitted(store, ...Array.from({ length: 20 }, () => ({ tenant: 'A' })))
        assert.equal((await claimed(store, { limit: 10 })).length, 10)
        await submitted(store, ...Array.from({ length: 10 }, () => ({ tenant: 'B' })))
        const tenants = (await claimed(store, { limit: 10 })).map(({ task }) => task.tenant)
        assert.equal(tenants.filter((tenant) => tenant === 'A').length, 5, tenants.join(''))
      }),
    )

    it(
      'starts a newcomer where the line stands, also when those before have left it',
      withStore(async (store) => {
        const rows = await submitted(store, ...Array.from({ length: 3 }, () => ({ tenant: 'A', cost: 10 })))
        for (const { id } of rows.slice(0, 2)) await store.tasks.cancel('A', id, startMs)
        await submitted(store, ...Array.from({ length: 3 }, () => ({ tenant: 'B', cost: 10 })))
        const tenants = (await claimed(store, { limit: 4 })).map(({ task }) => task.tenant)
        assert.deepEqual(tenants, ['A', 'B', 'B', 'B'])
      }),
    )

    it(
      'goes by the bands first, and keeps the lines of models apart',
      withStore(async (store) => {
        const rows = await submitted(store, { band: 100 }, { band: 50 }, { band: 0 }, { band: 50 }, { band: 7, model: 'n' }) // prettier-ignore
        const order = (await claimed(store, { limit: 10 })).map(({ task }) =>
          rows.findIndex(({ id }) => id === task.id),
        )
        assert.deepEqual(order, [2, 1, 3, 0])
        assert.deepEqual(await store.tasks.waitingModels(), ['n'])
      }),
    )

    it(
      'lets a task keep its place when it has to come again',
      withStore(async (store) => {
        await submitted(store, ...Array.from({ length: 5 }, () => ({})))
        const first = await claimedOne(store)
        await settled(store, first.task, { kind: 'released' })
        const second = await claimedOne(store)
        assert.equal(second.task.id, first.task.id)
        await settled(store, second.task, { kind: 'retry', error: failure, runAtMs: startMs })
        const third = await claimedOne(store)
        assert.equal(third.task.id, first.task.id)
        await store.tasks.rescue(startMs + 1e9, 10)
        assert.equal((await claimedOne(store)).task.id, first.task.id)
      }),
    )

    it(
      'puts what is requeued by hand behind those who wait',
      withStore(async (store) => {
        const [first] = await submitted(store, {}, { tenant: 'B' })
        await settled(store, (await claimedOne(store)).task, { kind: 'dead', error: failure })
        await submitted(store, { tenant: 'A' })
        await store.tasks.requeue('acme', first!.id, startMs)
        const order = (await claimed(store, { limit: 3 })).map(({ task }) => task.tenant)
        assert.deepEqual(order, ['B', 'A', 'acme'])
      }),
    )

    it(
      'lets a low band move behind endless urgent ones, as often as allowed',
      withStore(async (store) => {
        await submitted(store, { band: 100, tenant: 'low' }, { band: 100, tenant: 'low' })
        await submitted(store, ...Array.from({ length: 50 }, () => ({ band: 0, tenant: 'urgent' })))
        const take = async (waitedMs: number, agedLimit: number, limit = 8) => {
          const tasks = await claimed(store, {
            nowMs: startMs + waitedMs,
            ageingMs: 60_000,
            agedLimit,
            limit,
          })
          return tasks.filter(({ task }) => task.tenant === 'low').length
        }
        assert.equal(await take(59_999, 2), 0)
        assert.equal(await take(60_000, 0), 0)
        assert.equal(await take(60_000, 1), 1)
        assert.equal(await take(60_000, 5), 1)
        assert.equal(await take(60_000, 5), 0)
      }),
    )

    it(
      'counts the age from when a task could run, and gives the turns to the longest wait',
      withStore(async (store) => {
        await submitted(
          store,
          { band: 100, tenant: 'delayed', runAtMs: startMs + 50_000 },
          { band: 75, tenant: 'young', createdAtMs: startMs + 20_000 },
          { band: 50, tenant: 'old', createdAtMs: startMs + 10_000 },
          ...Array.from({ length: 9 }, () => ({ band: 0, tenant: 'urgent', createdAtMs: startMs + 60_000 })),
        )
        await store.tasks.promote(startMs + 60_000, 10)
        const take = async (afterMs: number) =>
          (await claimed(store, { nowMs: startMs + afterMs, ageingMs: 60_000, agedLimit: 1 }))[0]?.task.tenant
        assert.equal(await take(69_999), 'urgent')
        assert.equal(await take(100_000), 'old')
        assert.equal(await take(100_000), 'young')
        assert.equal(await take(119_999), 'urgent')
        assert.equal(await take(120_000), 'delayed')
      }),
    )

    it(
      'fills what the urgent bands leave with the others, aged or not',
      withStore(async (store) => {
        await submitted(store, { band: 0 }, { band: 100 }, { band: 50 })
        const bands = (await claimed(store, { limit: 10 })).map(({ task }) => task.band)
        assert.deepEqual(bands, [0, 50, 100])
      }),
    )

    it(
      'never gives one task to two claimers',
      withStore(async (store) => {
        const tasks: NewTask[] = Array.from({ length: 600 }, (_, index) =>
          newTask({ tenant: `t${index % 7}` }),
        )
        await store.tasks.submit(tasks, noLimits)
        const seen: string[] = []
        const work = async (owner: string) => {
          for (;;) {
            const taken = await claimed(store, { owner, limit: 7 })
            if (taken.length === 0) return
            seen.push(...taken.map(({ task }) => task.id))
            await Promise.all(taken.map(({ task }) => settled(store, task, success())))
          }
        }
        await Promise.all(['a', 'b', 'c', 'd', 'e', 'f'].map(work))
        assert.equal(seen.length, 600)
        assert.equal(new Set(seen).size, 600)
      }),
    )
  })
}
