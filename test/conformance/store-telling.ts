import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import type { WithStore } from './store.ts'
import { claimed, claimedOne, settled, startMs, submitted, submittedOne, success } from './tasks.ts'

export function describeTelling(withStore: WithStore): void {
  describe('what is told of a task', () => {
    it(
      'follows a task by its events',
      withStore(async (store) => {
        const { id } = await submittedOne(store, { runAtMs: startMs + 5 })
        await store.tasks.promote(startMs + 5, 1)
        const { task } = await claimedOne(store)
        await settled(store, task, success())
        const all = (await store.tasks.eventsAfter(id, 0))!
        assert.equal(all.task.status, 'succeeded')
        assert.deepEqual(
          all.events.map(({ seq, status }) => [seq, status]),
          [
            [1, 'delayed'],
            [2, 'queued'],
            [3, 'running'],
            [4, 'succeeded'],
          ],
        )
        assert.deepEqual(
          (await store.tasks.eventsAfter(id, 2))?.events.map(({ seq }) => seq),
          [3, 4],
        )
        assert.deepEqual((await store.tasks.eventsAfter(id, 4))?.events, [])
      }),
    )

    it(
      'writes a message with each last state, for those who asked for it',
      withStore(async (store) => {
        const [told, , late, cancelled] = await submitted(
          store,
          { notify: true, band: 0 },
          { band: 1 },
          { notify: true, deadlineMs: startMs + 1 },
          { notify: true },
        )
        assert.deepEqual(await store.outbox.claim(startMs + 9e9, 1000, 10), [])
        for (const { task } of await claimed(store, { limit: 2 })) await settled(store, task, success())
        await store.tasks.expire(startMs + 2000, 10)
        await store.tasks.cancel('acme', cancelled!.id, startMs + 3000)
        const messages = await store.outbox.claim(startMs + 9000, 1000, 10)
        assert.deepEqual(
          messages.map(({ taskId, tenant, createdAtMs, attempt }) => [taskId, tenant, createdAtMs, attempt]),
          [
            [told!.id, 'acme', startMs + 1000, 1],
            [late!.id, 'acme', startMs + 2000, 1],
            [cancelled!.id, 'acme', startMs + 3000, 1],
          ],
        )
        assert.equal(new Set(messages.map(({ id }) => id)).size, 3)
      }),
    )

    it(
      'hands a message to one at a time, again when it is not settled, and fences its attempts',
      withStore(async (store) => {
        await submittedOne(store, { notify: true })
        await settled(store, (await claimedOne(store)).task, success(), startMs)
        const take = (nowMs: number) => store.outbox.claim(nowMs, 1000, 10)
        const [first] = await take(startMs)
        assert.deepEqual(await take(startMs + 999), [])
        const [second] = await take(startMs + 1000)
        assert.equal(second?.attempt, 2)
        assert.equal(second.id, first?.id)
        assert.equal(await store.outbox.settle(first!.id, 1, null), false)
        assert.equal(await store.outbox.settle(second.id, 2, startMs + 50_000), true)
        assert.deepEqual(await take(startMs + 49_999), [])
        const [third] = await take(startMs + 50_000)
        assert.equal(third?.attempt, 3)
        assert.equal(await store.outbox.settle(third.id, 3, null), true)
        assert.deepEqual(await take(startMs + 9e9), [])
        assert.equal(await store.outbox.settle(third.id, 3, null), false)
      }),
    )
  })
}
