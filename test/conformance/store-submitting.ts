import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import type { Wake } from '../../src/storage/store.ts'
import { taskStatuses } from '../../src/storage/task-states.ts'
import type { WithStore } from './store.ts'
import {
  bytes,
  claimed,
  claimedOne,
  failure,
  newTask,
  noLimits,
  settled,
  startMs,
  submitted,
  submittedOne,
  success,
  text,
} from './tasks.ts'

export function describeSubmitting(withStore: WithStore): void {
  describe('submitting and reading', () => {
    it(
      'keeps every field of a task',
      withStore(async (store) => {
        const task = newTask({
          tenant: 'Ünïcode "tenant" \' 漢字',
          endpoint: 'sequence',
          model: 'some/model:1',
          band: 100,
          cost: 12.75,
          deadlineMs: startMs + 60_000,
          attemptsMax: 9,
          parent: 'batch_1',
          position: 41,
          idempotencyKey: 'key',
          fingerprint: 'print',
          metadata: { user: 'u-1', 'odd key': 'a "quoted" \\ value', empty: '' },
          notify: true,
          payload: new Uint8Array([0, 1, 2, 255, 0]),
        })
        const [outcome] = await store.tasks.submit([task], noLimits)
        const row = {
          id: task.id,
          tenant: task.tenant,
          endpoint: 'sequence',
          model: 'some/model:1',
          band: 100,
          status: 'queued',
          attempt: 0,
          attemptsMax: 9,
          createdAtMs: startMs,
          runAtMs: null,
          deadlineMs: startMs + 60_000,
          startedAtMs: null,
          finishedAtMs: null,
          cancelRequested: false,
          parent: 'batch_1',
          position: 41,
          notify: true,
          metadata: task.metadata,
          error: null,
          usage: null,
        }
        assert.deepEqual(outcome, { kind: 'created', task: row })
        assert.deepEqual(await store.tasks.find(task.id), row)
        const detail = await store.tasks.get(task.tenant, task.id)
        assert.deepEqual(detail?.task, row)
        assert.deepEqual([...detail.payload], [0, 1, 2, 255, 0])
        assert.equal(detail.result, null)
        assert.deepEqual(detail.steps, [])
        assert.deepEqual(detail.history, [
          { seq: 1, atMs: startMs, status: 'queued', attempt: 0, error: null, instance: null },
        ])
      }),
    )

    it(
      'keeps payloads of a megabyte and of nothing',
      withStore(async (store) => {
        const large = Buffer.alloc(1_000_000, 'large ')
        const rows = await submitted(store, { payload: large }, { payload: new Uint8Array() })
        const details = await Promise.all(rows.map(({ id }) => store.tasks.get('acme', id)))
        assert.ok(large.equals(details[0]!.payload))
        assert.equal(details[1]?.payload.byteLength, 0)
      }),
    )

    it(
      'shows a task to its own tenant alone',
      withStore(async (store) => {
        const { id } = await submittedOne(store)
        assert.equal(await store.tasks.get('other', id), null)
        assert.equal(await store.tasks.cancel('other', id, startMs), null)
        assert.equal(await store.tasks.requeue('other', id, startMs), null)
        assert.equal(await store.tasks.remove('other', id), null)
        assert.deepEqual(await store.tasks.list({ tenant: 'other', limit: 10 }), [])
        assert.equal((await store.tasks.find(id))?.status, 'queued')
        assert.equal(await store.tasks.get('acme', 'task_unknown'), null)
        assert.equal(await store.tasks.find('task_unknown'), null)
        assert.equal(await store.tasks.eventsAfter('task_unknown', 0), null)
      }),
    )

    it(
      'gives the same task for the same key and body, a conflict for another body',
      withStore(async (store) => {
        const first = newTask({ idempotencyKey: 'k', fingerprint: 'f' })
        const again = newTask({ idempotencyKey: 'k', fingerprint: 'f' })
        const other = newTask({ idempotencyKey: 'k', fingerprint: 'g' })
        const stranger = newTask({ idempotencyKey: 'k', fingerprint: 'f', tenant: 'other' })
        const outcomes = await store.tasks.submit([first, again, other, stranger], noLimits)
        assert.deepEqual(
          outcomes.map((outcome) => [outcome.kind, 'task' in outcome ? outcome.task.id : undefined]),
          [
            ['created', first.id],
            ['existing', first.id],
            ['conflict', undefined],
            ['created', stranger.id],
          ],
        )
        assert.deepEqual(outcomes[2], { kind: 'conflict', id: first.id })
        await claimedOne(store)
        const [later] = await store.tasks.submit([{ ...again, id: newTask().id }], noLimits)
        assert.equal(later?.kind === 'existing' && later.task.status, 'running')
        assert.equal((await store.tasks.count('acme')).queued, 0)
      }),
    )

    it(
      'takes one of many equal submissions at the same moment',
      withStore(async (store) => {
        const outcomes = await Promise.all(
          Array.from({ length: 40 }, () =>
            store.tasks.submit([newTask({ idempotencyKey: 'same', fingerprint: 'f' })], noLimits),
          ),
        )
        const kinds = outcomes.map(([outcome]) => outcome!.kind)
        assert.equal(kinds.filter((kind) => kind === 'created').length, 1)
        assert.equal(kinds.filter((kind) => kind === 'existing').length, 39)
        const ids = outcomes.map(([outcome]) => (outcome as { task: { id: string } }).task.id)
        assert.equal(new Set(ids).size, 1)
      }),
    )

    it(
      'refuses what is beyond the limits, and takes it when there is room again',
      withStore(async (store) => {
        const limits = { tenantTasksMax: 2, tenantBytesMax: 1000, tasksMax: 3, bytesMax: 1500 }
        const submit = async (tenant: string, size = 1) =>
          (await store.tasks.submit([newTask({ tenant, payload: Buffer.alloc(size) })], limits))[0]!
        const [a1, a2, a3] = await store.tasks.submit([newTask(), newTask(), newTask()], {
          ...limits,
          tenantBytesMax: 1e9,
        })
        assert.equal(a1?.kind, 'created')
        assert.equal(a2?.kind, 'created')
        assert.deepEqual(a3, { kind: 'full', scope: 'tenant', what: 'tasks' })
        assert.deepEqual(await submit('b', 1001), { kind: 'full', scope: 'tenant', what: 'bytes' })
        assert.equal((await submit('b', 1000)).kind, 'created')
        assert.deepEqual(await submit('c'), { kind: 'full', scope: 'all', what: 'tasks' })
        const task = await claimedOne(store)
        assert.deepEqual(await submit('c'), { kind: 'full', scope: 'all', what: 'tasks' })
        await settled(store, task.task, success())
        assert.deepEqual(await submit('c', 600), { kind: 'full', scope: 'all', what: 'bytes' })
        assert.equal((await submit('c', 100)).kind, 'created')
      }),
    )

    it(
      'never lets submissions at the same moment pass a limit together',
      withStore(async (store) => {
        const limits = { ...noLimits, tenantTasksMax: 10 }
        const outcomes = await Promise.all(
          Array.from({ length: 30 }, () => store.tasks.submit([newTask()], limits)),
        )
        assert.equal(outcomes.filter(([outcome]) => outcome!.kind === 'created').length, 10)
        assert.equal((await store.tasks.count('acme')).queued, 10)
      }),
    )

    it(
      'fails a bad call alone, and leaves its neighbours unharmed',
      withStore(async (store) => {
        const known = await submittedOne(store)
        // An id that is taken is a fault of the caller's, found by the database only.
        const calls = await Promise.allSettled([
          submittedOne(store),
          submittedOne(store, { id: known.id, tenant: 'bad' }),
          submittedOne(store),
          store.tasks.count('acme'),
        ])
        assert.deepEqual(
          calls.map(({ status }) => status),
          ['fulfilled', 'rejected', 'fulfilled', 'fulfilled'],
        )
        assert.equal((await store.tasks.count('acme')).queued, 3)
        assert.equal((await store.tasks.count('bad')).queued, 0)
        assert.deepEqual(await store.maintenance.check(), [])
      }),
    )

    it(
      'lists newest first or oldest first, page by page',
      withStore(async (store) => {
        const rows = await submitted(store, ...Array.from({ length: 25 }, () => ({})))
        const ids = rows.map(({ id }) => id)
        for (const ascending of [false, true]) {
          const seen: string[] = []
          for (let after: string | undefined; ;) {
            const page = await store.tasks.list({
              tenant: 'acme',
              ascending,
              limit: 7,
              ...(after === undefined ? {} : { after }),
            })
            seen.push(...page.map(({ id }) => id))
            if (page.length < 7) break
            after = seen.at(-1)!
            // What comes meanwhile must not move the pages.
            if (!ascending) await submitted(store, {})
          }
          assert.deepEqual(ascending ? seen.slice(0, 25) : seen, ascending ? ids : ids.toReversed())
        }
      }),
    )

    it(
      'filters what it lists',
      withStore(async (store) => {
        const rows = await submitted(
          store,
          { band: 0, metadata: { team: 'a', x: '1' } },
          { band: 25, model: 'n', createdAtMs: startMs + 10 },
          { band: 50, metadata: { team: 'a' }, createdAtMs: startMs + 20, parent: 'batch_1', position: 1 },
          { band: 100, createdAtMs: startMs + 30, runAtMs: startMs + 999 },
          { tenant: 'other', metadata: { team: 'a' } },
        )
        const find = async (filter: Partial<Parameters<typeof store.tasks.list>[0]>) => {
          const found = await store.tasks.list({ tenant: 'acme', ascending: true, limit: 100, ...filter })
          return found.map(({ id }) => rows.findIndex((row) => row.id === id))
        }
        assert.deepEqual(await find({}), [0, 1, 2, 3])
        assert.deepEqual(await find({ statuses: ['delayed'] }), [3])
        assert.deepEqual(await find({ statuses: ['delayed', 'queued'] }), [0, 1, 2, 3])
        assert.deepEqual(await find({ statuses: [] }), [])
        assert.deepEqual(await find({ bandMin: 25, bandMax: 50 }), [1, 2])
        assert.deepEqual(await find({ model: 'n' }), [1])
        assert.deepEqual(await find({ createdFromMs: startMs + 10, createdToMs: startMs + 20 }), [1, 2])
        assert.deepEqual(await find({ metadata: { team: 'a' } }), [0, 2])
        assert.deepEqual(await find({ metadata: { team: 'a', x: '1' } }), [0])
        assert.deepEqual(await find({ metadata: { team: 'b' } }), [])
        assert.deepEqual(await find({ metadata: {} }), [0, 1, 2, 3])
        assert.deepEqual(await find({ parent: 'batch_1' }), [2])
        assert.deepEqual(await find({ ownOnly: true }), [0, 1, 3])
        assert.deepEqual(await find({ limit: 1 }), [0])
      }),
    )

    it(
      'counts by status, of a tenant, of a batch and of models',
      withStore(async (store) => {
        const of = (counts: Record<string, number>) => ({
          ...Object.fromEntries(taskStatuses.map((status) => [status, 0])),
          ...counts,
        })
        assert.deepEqual(await store.tasks.count('acme'), of({}))
        await submitted(
          store,
          { parent: 'batch_1', position: 1 },
          { parent: 'batch_1', position: 2 },
          { model: 'n', runAtMs: startMs + 5 },
          { tenant: 'other', parent: 'batch_1', position: 3 },
        )
        const task = await claimedOne(store)
        assert.deepEqual(await store.tasks.count('acme'), of({ running: 1, queued: 1, delayed: 1 }))
        assert.deepEqual(await store.tasks.count('acme', 'batch_1'), of({ running: 1, queued: 1 }))
        assert.deepEqual(await store.tasks.count('other', 'batch_1'), of({ queued: 1 }))
        await settled(store, task.task, { kind: 'dead', error: failure })
        assert.deepEqual(await store.tasks.count('acme', 'batch_1'), of({ dead: 1, queued: 1 }))
        for (const statuses of [['dead'], ['dead', 'expired'], ['succeeded', 'dead']] as const) {
          const listed = await store.tasks.list({ tenant: 'acme', statuses, limit: 10 })
          assert.deepEqual(
            listed.map(({ id }) => id),
            [task.task.id],
          )
        }
        assert.deepEqual(await store.tasks.list({ tenant: 'acme', statuses: ['expired'], limit: 10 }), [])
        assert.deepEqual(await store.tasks.list({ tenant: 'other', statuses: ['dead'], limit: 10 }), [])
        const depths = await store.tasks.depths()
        const sorted = depths
          .filter(({ tasks }) => tasks > 0)
          .map(({ model, status, tasks }) => `${model} ${status} ${tasks}`)
          .sort()
        assert.deepEqual(sorted, ['m dead 1', 'm queued 2', 'n delayed 1'])
        assert.deepEqual(await store.tasks.waitingModels(), ['m'])
      }),
    )

    it(
      'tells listeners of work, after it can be seen, until they leave',
      withStore(async (store) => {
        const heard: Wake[] = []
        const ready = Promise.withResolvers<void>()
        const leave = store.onWake((wake) => {
          heard.push(wake)
          if (wake.kind === 'ready') ready.resolve()
        })
        await submitted(store, { model: 'n' })
        await ready.promise
        assert.deepEqual(heard, [{ kind: 'ready', model: 'n' }])
        leave()
        await submitted(store, { model: 'n' })
        assert.equal(heard.length, 1)
      }),
    )

    it(
      'gives the results of a batch in the order of its lines',
      withStore(async (store) => {
        await submitted(
          store,
          ...[3, 1, 2, 5, 4].map((position) => ({
            parent: 'batch_1',
            position,
            payload: bytes(`${position}`),
          })),
          { parent: 'batch_2', position: 1 },
        )
        for (const { task, payload } of await claimed(store, { limit: 4 })) {
          const outcome =
            text(payload) === '2' ? ({ kind: 'dead', error: failure } as const) : success(text(payload)!)
          await settled(store, task, outcome)
        }
        const results = await store.tasks.results('batch_1', 0, 10)
        assert.deepEqual(
          results.map(({ position, status, result, error, usage }) => [
            position,
            status,
            text(result),
            error?.code ?? null,
            usage?.promptTokens ?? null,
          ]),
          [
            [1, 'succeeded', '1', null, 7],
            [2, 'dead', null, 'upstream_failed', null],
            [3, 'succeeded', '3', null, 7],
            [5, 'succeeded', '5', null, 7],
          ],
        )
        const second = await store.tasks.results('batch_1', 2, 1)
        assert.deepEqual(
          second.map(({ position }) => position),
          [3],
        )
      }),
    )
  })
}
