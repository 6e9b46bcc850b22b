import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import type { AttemptOutcome, Settlement } from '../../src/storage/task-store.ts'
import { claimed, newTask, noLimits, startMs, submitted, success } from '../conformance/tasks.ts'
import { Folder, TestStore } from '../helpers/sqlite.ts'

const settlement = (task: { id: string; attempt: number }, outcome: AttemptOutcome): Settlement => ({
  id: task.id,
  attempt: task.attempt,
  nowMs: startMs,
  instance: 'local-1',
  outcome,
})

/** Calls of one turn of the event loop are one transaction, which writes its rows by many: each must see the others. */
describe('calls of one group, SQLite', () => {
  it('see what those before them have done', async () => {
    await using folder = await Folder.make()
    await using store = await TestStore.open(folder.database)
    const tasks = Array.from({ length: 23 }, () => newTask())
    const first = tasks[0]!
    const settle = () => store.tasks.settle([settlement({ id: first.id, attempt: 1 }, success())])
    const claim = () => claimed(store, { limit: 20, nowMs: startMs })
    const [, found, one, other, ended, again, detail, counts] = await Promise.all([
      store.tasks.submit(tasks, noLimits),
      store.tasks.find(first.id),
      claim(),
      claim(),
      settle(),
      settle(),
      store.tasks.get('acme', first.id),
      store.tasks.count('acme'),
    ])
    assert.equal(found?.status, 'queued')
    const ids = [...one, ...other].map(({ task }) => task.id)
    assert.deepEqual(
      ids,
      tasks.map(({ id }) => id),
      'in the order of the line, each once',
    )
    assert.deepEqual([...ended, ...again], [{ kind: 'settled', status: 'succeeded' }, { kind: 'lost' }])
    assert.deepEqual(
      detail?.history.map(({ seq, status }) => [seq, status]),
      [
        [1, 'queued'],
        [2, 'running'],
        [3, 'succeeded'],
      ],
    )
    assert.deepEqual([counts.queued, counts.running, counts.succeeded], [0, 22, 1])
    assert.deepEqual(await store.maintenance.check(), [])
  })

  it('settle a task once, however often one call names it', async () => {
    await using folder = await Folder.make()
    await using store = await TestStore.open(folder.database)
    const [task] = await submitted(store, {})
    await claimed(store)
    const twice = [success(), success()].map((outcome) => settlement({ id: task!.id, attempt: 1 }, outcome))
    assert.deepEqual(await store.tasks.settle(twice), [
      { kind: 'settled', status: 'succeeded' },
      { kind: 'lost' },
    ])
    assert.deepEqual(await store.maintenance.check(), [])
  })

  it('are all answered when one of them cannot be written, and nothing of that one is left', async () => {
    await using folder = await Folder.make()
    await using store = await TestStore.open(folder.database)
    const tasks = Array.from({ length: 40 }, () => newTask())
    tasks[19] = { ...newTask(), id: tasks[3]!.id }
    const outcomes = await Promise.allSettled(tasks.map((task) => store.tasks.submit([task], noLimits)))
    const failed = outcomes.flatMap(({ status }, index) => (status === 'rejected' ? [index] : []))
    assert.deepEqual(failed, [19])
    assert.equal((await store.tasks.count('acme')).queued, 39)
    assert.equal((await claimed(store, { limit: 100 })).length, 39)
    assert.deepEqual(await store.maintenance.check(), [])
  })

  it('tell of a task that has been tried before how that ended', async () => {
    await using folder = await Folder.make()
    await using store = await TestStore.open(folder.database)
    await submitted(store, {}, {})
    const error = { code: 'upstream_failed', message: 'no' }
    const [one] = await claimed(store, { limit: 1, nowMs: startMs })
    const [, again] = await Promise.all([
      store.tasks.settle([settlement(one!.task, { kind: 'retry', error, runAtMs: startMs })]),
      claimed(store, { limit: 2, nowMs: startMs }),
    ])
    const seen = again.map(({ task: { attempt, error } }) => [attempt, error])
    assert.deepEqual(seen, [
      [2, error],
      [1, null],
    ])
  })
})
