import { strict as assert } from 'node:assert'
import { copyFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, it } from 'node:test'
import pino from 'pino'
import { runAside } from '../../src/storage/sqlite/aside.ts'
import { migrate, readVersion, Database } from '../../src/storage/sqlite/database.ts'
import { migrations } from '../../src/storage/sqlite/schema.ts'
import {
  claimed,
  newTask,
  noLimits,
  settled,
  startMs,
  submitted,
  submittedOne,
  success,
} from '../conformance/tasks.ts'
import { ManualClock } from '../helpers/clock.ts'
import { eventually } from '../helpers/server.ts'
import { Folder, TestStore } from '../helpers/sqlite.ts'

const countOf = async (store: TestStore, tenant = 'acme') => (await store.tasks.count(tenant)).queued

describe('the SQLite driver', () => {
  it('keeps a second server out of the folder, and says who is in', async () => {
    await using folder = await Folder.make()
    const first = await TestStore.open(folder.database)
    await assert.rejects(TestStore.open(folder.database), (error: Error) => {
      assert.equal(error.name, 'SetupError')
      assert.ok(error.message.includes(folder.database), error.message)
      assert.ok(error.message.includes(`process ${process.pid}`), error.message)
      assert.match(error.message, /dataDir.*PostgreSQL/)
      return true
    })
    await submittedOne(first)
    await first.stop()
    await using second = await TestStore.open(folder.database)
    assert.equal(await countOf(second), 1)
    assert.deepEqual(await readdir(folder.path), ['autoglm.db', 'autoglm.db-shm', 'autoglm.db-wal', 'autoglm.db.lock', 'autoglm.db.pid']) // prettier-ignore
  })

  it('frees the tasks of a server that died at the next start, and not when its thread is started again', async () => {
    await using folder = await Folder.make()
    const clock = new ManualClock()
    const first = await TestStore.open(folder.database, { clock })
    const [ran, waits] = await submitted(first, { band: 0 }, {})
    await claimed(first, { nowMs: startMs, leaseMs: 3_600_000 })
    await first.crash()
    clock.advance(1000)
    await eventually('it is back', () => first.tasks.find(ran!.id).then(() => true, () => false)) // prettier-ignore
    assert.deepEqual(await first.tasks.rescue(startMs, 10), [], 'its worker is alive')
    await first.stop()

    await using second = await TestStore.open(folder.database)
    const [rescued, ...others] = await second.tasks.rescue(startMs, 10)
    assert.deepEqual([rescued?.id, rescued?.status, others], [ran!.id, 'queued', []])
    const row = await second.tasks.find(ran!.id)
    assert.deepEqual([row?.attempt, row?.error?.code], [1, 'worker_lost'])
    assert.equal((await second.tasks.find(waits!.id))?.attempt, 0)
    assert.deepEqual(await second.maintenance.check(), [])
  })

  it('frees the messages that a server was about to deliver, and not those that wait for their next try', async () => {
    await using folder = await Folder.make()
    const first = await TestStore.open(folder.database)
    await submitted(first, { notify: true }, { notify: true })
    for (const { task } of await claimed(first, { limit: 2 })) await settled(first, task, success(), startMs)
    const [held, waiting] = await first.outbox.claim(startMs, 3_600_000, 2)
    assert.equal(await first.outbox.settle(waiting!.id, 1, startMs + 3_600_000), true)
    assert.deepEqual(await first.outbox.claim(startMs, 1000, 2), [])
    await first.crash()
    await first.stop()

    await using second = await TestStore.open(folder.database)
    const again = await second.outbox.claim(startMs, 1000, 2)
    assert.deepEqual(
      again.map(({ id, attempt }) => [id, attempt]),
      [[held!.id, 2]],
    )
    assert.equal(await second.outbox.settle(held!.id, 1, null), false, 'by the server that died')
    assert.equal(await second.outbox.settle(held!.id, 2, null), true)
    const [last] = await second.outbox.claim(startMs + 3_600_000, 1000, 2)
    assert.equal(last?.id, waiting!.id)
  })

  it('keeps the messages of a database that knew no leases of them', async () => {
    await using folder = await Folder.make()
    const old = new Database(folder.database)
    migrate(old, migrations.slice(0, 2))
    old.handle.exec(`INSERT INTO outbox (id, n, task_id, tenant, created_at, attempt, due_at)
      VALUES ('msg_1', 1, 'task_1', 'acme', ${startMs}, 1, ${startMs + 5000})`)
    old.close()
    await using store = await TestStore.open(folder.database)
    assert.deepEqual(await store.outbox.claim(startMs, 1000, 10), [], 'not before its time')
    const [message] = await store.outbox.claim(startMs + 5000, 1000, 10)
    assert.deepEqual([message?.id, message?.attempt], ['msg_1', 2])
  })

  it('lists one model by the index alone, also in a database that is older than that', async () => {
    await using folder = await Folder.make()
    const old = new Database(folder.database)
    migrate(old, migrations.slice(0, 1))
    old.handle
      .exec(`INSERT INTO tasks (n, id, tenant, endpoint, model, band, status, born, cost, tag, bytes, attempts_max,
        notify, created_at, ready_at)
      VALUES (1, 'task_1', 'acme', '/v1/completions', 'rare', 50, 1, 1, 1, 0, 1, 1, 0, 1, 1),
        (2, 'task_2', 'acme', '/v1/completions', 'm', 50, 1, 1, 1, 0, 1, 1, 0, 1, 1);
      INSERT INTO payloads (n, payload, attempts_each) VALUES (1, x'00', 1), (2, x'00', 1)`)
    old.close()
    await using store = await TestStore.open(folder.database)
    const rows = await store.tasks.list({ tenant: 'acme', model: 'rare', limit: 10 })
    assert.deepEqual(
      rows.map(({ id }) => id),
      ['task_1'],
    )
    const stranger = new DatabaseSync(folder.database)
    const plan = stranger
      .prepare(
        `EXPLAIN QUERY PLAN SELECT id FROM tasks WHERE tenant = ? AND model = ? ORDER BY id DESC LIMIT 10`,
      )
      .all()
    stranger.close()
    assert.match(JSON.stringify(plan), /COVERING INDEX tasks_list/)
  })

  it('refuses a schema that is newer than it knows, and leaves it as it is', async () => {
    await using folder = await Folder.make()
    await (await TestStore.open(folder.database)).stop()
    const handle = new DatabaseSync(folder.database)
    handle.exec('UPDATE schema_version SET version = 99')
    handle.close()
    const message = new RegExp(`version 99.*up to ${migrations.length}\\b`, 's')
    await assert.rejects(TestStore.open(folder.database), { name: 'SetupError', message })
    // Refused for good, and not because the lock of the refusal is still there.
    await assert.rejects(TestStore.open(folder.database), { name: 'SetupError', message })
  })

  it('says what is no database', async () => {
    await using folder = await Folder.make()
    await copyFile(import.meta.filename, folder.database)
    await assert.rejects(TestStore.open(folder.database), { name: 'SetupError', message: /not a database/ })
  })

  it('goes on from any step of a migration, and does none of a step that fails', async () => {
    await using folder = await Folder.make()
    const database = new Database(folder.database)
    const steps = [
      ...migrations,
      'CREATE TABLE one (n INTEGER) STRICT',
      'CREATE TABLE two (n INTEGER) STRICT; SELECT nonsense',
    ]
    assert.throws(() => migrate(database, steps), /nonsense/)
    assert.equal(readVersion(database), migrations.length + 1)
    const tables = () =>
      database.handle.prepare(`SELECT name FROM sqlite_schema WHERE name IN ('one', 'two')`).all().length
    assert.equal(tables(), 1)
    steps[migrations.length + 1] = 'CREATE TABLE two (n INTEGER) STRICT'
    migrate(database, steps)
    migrate(database, steps)
    assert.equal(readVersion(database), migrations.length + 2)
    assert.equal(tables(), 2)
    database.close()
  })

  it('copies itself while it is written to, and the copy is a database that goes on', async () => {
    await using folder = await Folder.make()
    await using store = await TestStore.open(folder.database)
    await submitted(store, ...Array.from({ length: 50 }, () => ({})))
    for (const { task } of await claimed(store, { limit: 10 })) await settled(store, task, success())
    let writing = true
    const writer = (async () => {
      while (writing) await submittedOne(store, { tenant: 'busy' })
    })()
    const copy = join(folder.path, 'copy.db')
    const backUp = (target: string) => runAside({ path: folder.database, task: 'backup', target })
    await backUp(copy)
    writing = false
    await writer
    await assert.rejects(backUp(copy), { name: 'SetupError', message: /there already/ })
    await assert.rejects(backUp('/nowhere/copy.db'), { name: 'SetupError' })

    await using other = await Folder.make()
    await copyFile(copy, other.database)
    await using restored = await TestStore.open(other.database)
    assert.deepEqual(await restored.maintenance.check(), [])
    const counts = await restored.tasks.count('acme')
    assert.equal(counts.queued, 40)
    assert.equal(counts.succeeded, 10)
    const busy = await countOf(restored, 'busy')
    assert.ok(busy <= (await countOf(store, 'busy')))
    await submittedOne(restored)
    assert.equal((await claimed(restored, { limit: 100 })).length, Math.min(41 + busy, 100))
  })

  it('fails what is under way when its thread dies, says so, and comes back', async () => {
    await using folder = await Folder.make()
    const clock = new ManualClock()
    const lines: string[] = []
    const log = pino({ level: 'error' }, { write: (line: string) => void lines.push(line) })
    await using store = await TestStore.open(folder.database, { clock, log })
    const kept = await submittedOne(store)
    const underWay = store.tasks.submit(
      Array.from({ length: 20_000 }, () => newTask()),
      noLimits,
    )
    await new Promise((resolve) => setImmediate(resolve))
    const [outcome] = await Promise.allSettled([underWay, store.crash()])
    assert.equal(outcome.status, 'rejected')
    assert.equal((outcome.reason as Error).name, 'StoreUnavailable')
    await eventually('the log says it', () => lines.some((line) => line.includes('storage thread has ended')))
    await assert.rejects(store.tasks.find(kept.id), { name: 'StoreUnavailable' })
    clock.advance(1000)
    await eventually('it is back', () => store.tasks.find(kept.id).then(() => true, () => false)) // prettier-ignore
    assert.equal(await countOf(store), 1)
    assert.deepEqual(await store.maintenance.check(), [])
  })

  it('tells the other listeners when one of them fails, and goes on', async () => {
    await using folder = await Folder.make()
    const lines: string[] = []
    const log = pino({ level: 'error' }, { write: (line: string) => void lines.push(line) })
    await using store = await TestStore.open(folder.database, { log })
    store.onWake(() => {
      throw new Error('a fault of the listener')
    })
    const heard = new Promise<string>((resolve) => store.onWake(({ kind }) => resolve(kind)))
    await submittedOne(store)
    assert.equal(await heard, 'ready')
    assert.ok(lines.some((line) => line.includes('a fault of the listener')))
  })

  it('does not come back after it was stopped', async () => {
    await using folder = await Folder.make()
    const clock = new ManualClock()
    const store = await TestStore.open(folder.database, { clock })
    await store.crash()
    await store.stop()
    clock.advance(10_000)
    await assert.rejects(store.tasks.find('task_x'), { name: 'StoreUnavailable' })
    await using next = await TestStore.open(folder.database)
    assert.equal(await countOf(next), 0)
  })

  it('refuses writes while another process holds the database, answers reads, and goes on after', async () => {
    await using folder = await Folder.make()
    await using store = await TestStore.open(folder.database, { busyTimeoutMs: 100 })
    const kept = await submittedOne(store)
    const stranger = new DatabaseSync(folder.database)
    stranger.exec('BEGIN IMMEDIATE')
    const calls = await Promise.allSettled([
      ...Array.from({ length: 30 }, () => submittedOne(store)),
      store.tasks.find(kept.id),
    ])
    assert.equal(calls.pop()?.status, 'fulfilled')
    for (const call of calls) {
      assert.equal(call.status, 'rejected')
      assert.equal((call.reason as Error).name, 'StoreUnavailable')
    }
    stranger.exec('ROLLBACK')
    stranger.close()
    await submittedOne(store)
    assert.equal(await countOf(store), 2)
  })

  it('holds no more calls and bytes than it may', async () => {
    await using folder = await Folder.make()
    await using store = await TestStore.open(folder.database)
    const finds = await Promise.allSettled(Array.from({ length: 25_000 }, () => store.tasks.find('task_x')))
    const refused = finds.filter(({ status }) => status === 'rejected')
    assert.equal(refused.length, 5_000)
    for (const call of refused) {
      assert.equal(((call as PromiseRejectedResult).reason as Error).name, 'StoreUnavailable')
    }
    const piece = new Uint8Array(1024 * 1024)
    const held = store.tasks.find('task_x')
    const pieces = Array.from({ length: 600 }, () => piece)
    await assert.rejects(store.blobs.append('large', pieces), { name: 'StoreUnavailable', message: /bytes/ })
    await held
    assert.equal(await store.blobs.append('small', pieces.slice(0, 3)), 3)
  })

  it('finds what has been damaged', async () => {
    await using folder = await Folder.make()
    await using store = await TestStore.open(folder.database)
    await submitted(store, {}, {}, {})
    const [{ task } = { task: null }] = await claimed(store)
    await settled(store, task!, success(), startMs)
    const damages: [string, string, RegExp][] = [
      ['UPDATE tallies SET tasks = tasks + 1 WHERE kind = ?', 'tenant', /tallies differ/],
      ['DELETE FROM payloads WHERE n = ?', '2', /lost their payload/],
      ['DELETE FROM results WHERE n = ?', '1', /without a result/],
      ['DELETE FROM events WHERE n = ?', '1', /another number of events/],
      ['UPDATE tasks SET tag = NULL WHERE status = 1 AND n = ?', '3', /place in the line/],
    ]
    assert.deepEqual(await store.maintenance.check(), [])
    const stranger = new DatabaseSync(folder.database)
    for (const [text, value, complaint] of damages) {
      stranger.prepare(text).run(value)
      const complaints = await store.maintenance.check()
      assert.ok(
        complaints.some((line) => complaint.test(line)),
        `${complaint} in ${complaints.join('; ')}`,
      )
    }
    stranger.close()
  })
})
