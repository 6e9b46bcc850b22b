import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import type { AttemptOutcome } from '../../src/storage/task-store.ts'
import type { WithStore } from './store.ts'
import {
  bytes,
  claimed,
  claimedOne,
  failure,
  historyOf,
  settled,
  startMs,
  submitted,
  submittedOne,
  success,
  text,
} from './tasks.ts'

export function describeEnding(withStore: WithStore): void {
  describe('ends by hand and by time', () => {
    it(
      'cancels at once what waits, and asks what runs to end',
      withStore(async (store) => {
        const [queued, delayed, running, done] = await submitted(store, { band: 9 }, { runAtMs: startMs + 9 }, { band: 1 }, { band: 0 }) // prettier-ignore
        await settled(store, (await claimedOne(store)).task, success())
        await claimedOne(store)
        const cancel = async (row: { id: string } | undefined) => {
          const task = await store.tasks.cancel('acme', row!.id, startMs + 50)
          return [task?.status, task?.cancelRequested, task?.finishedAtMs ?? null]
        }
        assert.deepEqual(await cancel(queued), ['cancelled', false, startMs + 50])
        assert.deepEqual(await cancel(delayed), ['cancelled', false, startMs + 50])
        assert.deepEqual(await cancel(running), ['running', true, null])
        assert.deepEqual(await cancel(done), ['succeeded', false, startMs + 1000])
        assert.deepEqual(await cancel(queued), ['cancelled', false, startMs + 50])
        assert.deepEqual(await store.tasks.renew([{ id: running!.id, attempt: 1 }], startMs + 60_000), [
          'cancelled',
        ])
        assert.equal(await store.tasks.cancel('acme', 'task_unknown', startMs), null)
        assert.deepEqual(await claimed(store, { limit: 10, nowMs: startMs + 100 }), [])
        assert.deepEqual(await historyOf(store, queued!.id), ['1 queued 0', '2 cancelled 0 cancelled'])
      }),
    )

    it(
      'ends a task whose cancel was asked for instead of running it again',
      withStore(async (store) => {
        const outcomes: [AttemptOutcome | 'rescue', string][] = [
          [{ kind: 'retry', error: failure, runAtMs: startMs + 9000 }, 'cancelled'],
          [{ kind: 'released' }, 'cancelled'],
          [{ kind: 'cancelled' }, 'cancelled'],
          ['rescue', 'cancelled'],
          // It was quicker than the cancel, or there is something to tell.
          [success(), 'succeeded'],
          [{ kind: 'dead', error: failure }, 'dead'],
        ]
        for (const [outcome, status] of outcomes) {
          const { id } = await submittedOne(store)
          const { task } = await claimedOne(store)
          await store.tasks.cancel('acme', id, startMs)
          if (outcome === 'rescue') await store.tasks.rescue(startMs + 1e9, 10)
          else assert.equal(await settled(store, task, outcome), status)
          const row = await store.tasks.find(id)
          assert.equal(row?.status, status)
          assert.notEqual(row.finishedAtMs, null)
        }
      }),
    )

    it(
      'requeues what has ended badly, and nothing else',
      withStore(async (store) => {
        const { id } = await submittedOne(store, { attemptsMax: 1, deadlineMs: startMs + 1500 })
        const requeue = (nowMs: number) => store.tasks.requeue('acme', id, nowMs)
        assert.equal((await requeue(startMs))?.moved, false)
        const { task } = await claimedOne(store)
        assert.equal((await requeue(startMs))?.moved, false)
        await settled(store, task, { kind: 'dead', error: failure, result: bytes('why') })
        assert.equal(text((await store.tasks.get('acme', id))?.result), 'why')
        const requeued = await requeue(startMs + 2000)
        assert.equal(requeued?.moved, true)
        assert.equal(requeued.task.status, 'queued')
        assert.equal(requeued.task.finishedAtMs, null)
        assert.equal(requeued.task.deadlineMs, null, 'a deadline in the past would end it again at once')
        assert.equal((await store.tasks.get('acme', id))?.result, null)
        await settled(store, (await claimedOne(store)).task, success())
        assert.equal((await requeue(startMs + 3000))?.moved, false)
        assert.equal(await store.tasks.requeue('acme', 'task_unknown', startMs), null)
        assert.deepEqual(await historyOf(store, id), [
          '1 queued 0',
          '2 running 1',
          '3 dead 1 upstream_failed',
          '4 queued 1 requeued',
          '5 running 2',
          '6 succeeded 2',
        ])
      }),
    )

    it(
      'expires what waits past its deadline, in steps',
      withStore(async (store) => {
        const [first, second, running, later] = await submitted(
          store,
          { deadlineMs: startMs + 100 },
          { deadlineMs: startMs + 200, runAtMs: startMs + 9000 },
          { deadlineMs: startMs + 100, band: 0 },
          { deadlineMs: startMs + 301 },
        )
        await claimedOne(store)
        assert.equal(await store.tasks.nextDueMs(), startMs + 100)
        const step = async () =>
          (await store.tasks.expire(startMs + 300, 1)).map(({ id, status }) => [id, status])
        assert.deepEqual(await step(), [[first!.id, 'expired']])
        assert.deepEqual(await step(), [[second!.id, 'expired']])
        assert.deepEqual(await step(), [])
        assert.equal((await store.tasks.find(running!.id))?.status, 'running')
        assert.equal((await store.tasks.find(later!.id))?.status, 'queued')
        assert.equal((await store.tasks.find(first!.id))?.error?.code, 'expired')
        assert.equal(await store.tasks.nextDueMs(), startMs + 301)
      }),
    )
  })
}
