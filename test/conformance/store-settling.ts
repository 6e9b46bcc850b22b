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

export function describeSettling(withStore: WithStore): void {
  describe('attempts', () => {
    it(
      'claims a task with its payload, and keeps the result, usage and instance',
      withStore(async (store) => {
        const { id } = await submittedOne(store, { payload: bytes('work'), metadata: { a: 'b' } })
        const { task, payload, steps } = await claimedOne(store, { nowMs: startMs + 10 })
        assert.equal(text(payload), 'work')
        assert.deepEqual(steps, [])
        assert.equal(task.id, id)
        assert.equal(task.status, 'running')
        assert.equal(task.attempt, 1)
        assert.equal(task.startedAtMs, startMs + 10)
        assert.deepEqual(task.metadata, { a: 'b' })
        assert.deepEqual(task, await store.tasks.find(id))
        assert.equal(await settled(store, task, success('result'), startMs + 20), 'succeeded')
        const detail = (await store.tasks.get('acme', id))!
        assert.equal(text(detail.result), 'result')
        assert.deepEqual(detail.task.usage, { promptTokens: 7, completionTokens: 5, cachedTokens: 3 })
        assert.equal(detail.task.finishedAtMs, startMs + 20)
        assert.deepEqual(detail.history.at(-1), {
          seq: 3,
          atMs: startMs + 20,
          status: 'succeeded',
          attempt: 1,
          error: null,
          instance: 'node-1',
        })
        assert.deepEqual(await historyOf(store, id), ['1 queued 0', '2 running 1', '3 succeeded 1'])
      }),
    )

    it(
      'refuses every write of an attempt that is over',
      withStore(async (store) => {
        const { id } = await submittedOne(store)
        const lost = async (attempt: number) => {
          for (const outcome of [
            success('late'),
            { kind: 'dead', error: failure },
            { kind: 'retry', error: failure, runAtMs: startMs },
            { kind: 'released' },
            { kind: 'cancelled' },
            { kind: 'expired' },
          ] satisfies AttemptOutcome[]) {
            assert.equal(await settled(store, { id, attempt }, outcome), 'lost', outcome.kind)
          }
          assert.deepEqual(await store.tasks.renew([{ id, attempt }], startMs + 1e9), ['lost'])
          assert.equal(
            await store.tasks.saveStep(id, attempt, { step: 0, attempt, result: bytes('x') }),
            false,
          )
        }
        await lost(0)
        await lost(1)
        await claimedOne(store)
        await lost(0)
        await lost(2)
        // The worker falls silent, and another takes over.
        await store.tasks.rescue(startMs + 30_000, 10)
        await lost(1)
        const second = await claimedOne(store, { nowMs: startMs + 30_000 })
        await lost(1)
        assert.equal(await settled(store, second.task, success('second')), 'succeeded')
        await lost(2)
        const detail = (await store.tasks.get('acme', id))!
        assert.equal(text(detail.result), 'second')
        assert.deepEqual(detail.steps, [])
        assert.equal(await settled(store, { id: 'task_unknown', attempt: 1 }, success()), 'lost')
      }),
    )

    it(
      'never uses the number of an attempt twice, not after a release nor a requeue',
      withStore(async (store) => {
        const { id } = await submittedOne(store, { attemptsMax: 2 })
        const first = await claimedOne(store)
        assert.equal(await settled(store, first.task, { kind: 'released' }), 'queued')
        assert.equal((await store.tasks.find(id))?.attemptsMax, 3)
        const second = await claimedOne(store)
        assert.equal(second.task.attempt, 2)
        assert.equal(await settled(store, first.task, success()), 'lost')
        await settled(store, second.task, { kind: 'dead', error: failure })
        const requeued = await store.tasks.requeue('acme', id, startMs + 2000)
        assert.equal(requeued?.moved, true)
        assert.equal(requeued.task.attempt, 2)
        assert.equal(requeued.task.attemptsMax, 4)
        assert.equal((await claimedOne(store)).task.attempt, 3)
        assert.equal(await settled(store, second.task, success()), 'lost')
      }),
    )

    it(
      'settles many in one call, each on its own',
      withStore(async (store) => {
        await submitted(store, {}, {}, {})
        const tasks = await claimed(store, { limit: 3 })
        const settlement = (index: number, attempt = 1) => ({
          id: tasks[index]!.task.id,
          attempt,
          nowMs: startMs,
          instance: null,
          outcome: success(),
        })
        const outcomes = await store.tasks.settle([
          settlement(0),
          settlement(0),
          settlement(1, 2),
          settlement(2),
        ])
        assert.deepEqual(
          outcomes.map(({ kind }) => kind),
          ['settled', 'lost', 'lost', 'settled'],
        )
        assert.equal((await store.tasks.find(tasks[1]!.task.id))?.status, 'running')
      }),
    )

    it(
      'waits before a retry, and shows the last error',
      withStore(async (store) => {
        const { id } = await submittedOne(store)
        const first = await claimedOne(store)
        const runAtMs = startMs + 5000
        assert.equal(
          await settled(store, first.task, { kind: 'retry', error: failure, runAtMs }, startMs + 1000),
          'delayed',
        )
        const row = (await store.tasks.find(id))!
        assert.deepEqual(row.error, failure)
        assert.equal(row.runAtMs, runAtMs)
        assert.equal(row.finishedAtMs, null)
        assert.deepEqual(await claimed(store, { nowMs: runAtMs }), [])
        assert.equal(await store.tasks.nextDueMs(), runAtMs)
        assert.deepEqual(await store.tasks.promote(runAtMs - 1, 10), [])
        const promoted = await store.tasks.promote(runAtMs, 10)
        assert.deepEqual(promoted, [{ id, tenant: 'acme', model: 'm', status: 'queued', parent: null }])
        const second = await claimedOne(store, { nowMs: runAtMs })
        assert.equal(second.task.attempt, 2)
        // A time that has come already: no way around by `delayed`.
        const again = { kind: 'retry', error: { code: 'x', message: 'y' }, runAtMs } as const
        assert.equal(await settled(store, second.task, again, runAtMs), 'queued')
        await settled(store, (await claimedOne(store, { nowMs: runAtMs })).task, success(), runAtMs)
        assert.deepEqual((await store.tasks.find(id))?.error, { code: 'x', message: 'y' })
        assert.deepEqual(await historyOf(store, id), [
          '1 queued 0',
          '2 running 1',
          '3 delayed 1 upstream_failed',
          '4 queued 1',
          '5 running 2',
          '6 queued 2 x',
          '7 running 3',
          '8 succeeded 3',
        ])
      }),
    )

    it(
      'rescues what a dead worker held, and ends what kills its workers',
      withStore(async (store) => {
        const { id } = await submittedOne(store, { attemptsMax: 2 })
        await claimedOne(store, { leaseMs: 1000 })
        assert.deepEqual(await store.tasks.rescue(startMs + 999, 10), [])
        const [moved] = await store.tasks.rescue(startMs + 1000, 10)
        assert.equal(moved?.status, 'queued')
        const second = await claimedOne(store, { nowMs: startMs + 2000, leaseMs: 1000 })
        assert.deepEqual(await store.tasks.renew([{ id, attempt: second.task.attempt }], startMs + 9000), [
          'held',
        ])
        assert.deepEqual(await store.tasks.rescue(startMs + 8999, 10), [])
        const dead = await store.tasks.rescue(startMs + 9000, 10)
        assert.deepEqual(dead, [{ id, tenant: 'acme', model: 'm', status: 'dead', parent: null }])
        assert.equal((await store.tasks.find(id))?.error?.code, 'worker_lost')
        assert.equal(await settled(store, second.task, success()), 'lost')
        assert.deepEqual(await historyOf(store, id), [
          '1 queued 0',
          '2 running 1',
          '3 queued 1 worker_lost',
          '4 running 2',
          '5 dead 2 worker_lost',
        ])
      }),
    )

    it(
      'keeps the steps of a sequence for the next attempt',
      withStore(async (store) => {
        const { id } = await submittedOne(store)
        const { task } = await claimedOne(store)
        const save = (step: number, attempt: number, result: string) =>
          store.tasks.saveStep(id, attempt, { step, attempt, result: bytes(result) })
        assert.equal(await save(1, 1, 'one'), true)
        assert.equal(await save(0, 1, 'zero'), true)
        assert.equal(await save(1, 1, 'one again'), true)
        await settled(store, task, { kind: 'retry', error: failure, runAtMs: startMs })
        const { steps } = await claimedOne(store)
        assert.deepEqual(
          steps.map(({ step, attempt, result }) => [step, attempt, text(result)]),
          [
            [0, 1, 'zero'],
            [1, 1, 'one again'],
          ],
        )
        assert.deepEqual((await store.tasks.get('acme', id))?.steps, steps)
      }),
    )
  })
}
