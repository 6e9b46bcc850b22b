import { strict as assert } from 'node:assert'
import { after, before, beforeEach, describe, it } from 'node:test'
import pg from 'pg'
import pino from 'pino'
import { systemClock } from '../../src/core/clock.ts'
import { SetupError } from '../../src/core/errors.ts'
import { chooseAged } from '../../src/storage/postgres/claim.ts'
import { defaultLimits } from '../../src/storage/postgres/database.ts'
import { judgeFailure } from '../../src/storage/postgres/failures.ts'
import { migrate } from '../../src/storage/postgres/migrate.ts'
import type { PostgresStore } from '../../src/storage/postgres/postgres-store.ts'
import { migrations } from '../../src/storage/postgres/schema.ts'
import { explainSetup } from '../../src/storage/postgres/setup-errors.ts'
import { packBytes, splitByBytes, toRows } from '../../src/storage/postgres/values.ts'
import { packWakes, unpackWakes, WakeLine } from '../../src/storage/postgres/wakes.ts'
import type { Wake } from '../../src/storage/store.ts'
import { claimed, newTask, noLimits, settled, startMs, submitted, success } from '../conformance/tasks.ts'
import { createDatabase, makeStore, type TestDatabase } from '../helpers/postgres.ts'
import { eventually } from '../helpers/server.ts'
import { serviceSkip } from '../helpers/services.ts'

const seed = Number(process.env['TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

describe('what goes to PostgreSQL and comes from it', () => {
  it('packs wakes into messages that it takes, and reads them back', () => {
    const wakes: Wake[] = [
      { kind: 'ready', model: 'm"\\\u{1F600}' },
      { kind: 'outbox' },
      { kind: 'cancel', id: 'task_1' },
      ...Array.from({ length: 1000 }, (_, n): Wake => ({
        kind: 'changed',
        id: `task_${n}`,
        parent: n % 2 ? 'batch' : null,
      })),
    ]
    const messages = packWakes(wakes)
    for (const message of messages) assert(Buffer.byteLength(message) < 8000)
    const key = (wake: Wake) => JSON.stringify(wake)
    assert.deepEqual(messages.flatMap(unpackWakes).map(key).sort(), wakes.map(key).sort())
  })

  it('reads nothing out of what others say on the channel', () => {
    for (const text of [
      '',
      'x',
      'null',
      '7',
      '[]',
      '{"ready":7,"cancel":[1,null],"changed":[7,[],[1],{}],"outbox":1}',
    ]) {
      assert.deepEqual(unpackWakes(text), [])
    }
  })

  it('keeps no more wakes than it may while its connection is away', () => {
    const told: Wake[] = []
    const line = new WakeLine({
      url: '',
      limits: defaultLimits,
      clock: systemClock,
      log: pino({ level: 'silent' }),
    })
    line.listen((wake) => told.push(wake))
    const wakes = (kind: 'cancel' | 'changed', count: number) =>
      Array.from({ length: count }, (_, at): Wake => ({ kind, id: `task_${at}`, parent: null }))
    line.tell([...wakes('changed', 300), ...wakes('cancel', 20_000)])
    assert.equal(told.length, 20_300, 'this process is told of all')
    assert.equal(line.waiting, 10_000)
  })

  it('replaces what a text of PostgreSQL can not hold, and nothing else', () => {
    const rows = [{ a: 'x\0y', b: '\ud800', deep: { 'k\0': '\udc00' }, c: 'ok \u{1F600} \\u0000', n: 1 }]
    assert.deepEqual(JSON.parse(toRows(rows)), [
      { a: 'x\uFFFDy', b: '\uFFFD', deep: { 'k\uFFFD': '\uFFFD' }, c: 'ok \u{1F600} \\u0000', n: 1 },
    ])
  })

  it('packs bytes behind one another, and cuts lists by their size', () => {
    const { bytes, places } = packBytes([Buffer.from('ab'), null, Buffer.alloc(0), Buffer.from('cde')])
    assert.equal(bytes.toString(), 'abcde')
    assert.deepEqual(places, [
      { from: 1, length: 2 },
      { from: null, length: null },
      { from: 3, length: 0 },
      { from: 3, length: 3 },
    ])
    assert.deepEqual(
      splitByBytes([1, 2, 3, 9, 1], (item) => item, 5),
      [[1, 2], [3], [9], [1]],
    )
    assert.deepEqual(
      splitByBytes([], () => 1, 5),
      [],
    )
  })

  it('gives the turns of the aged to the longest wait', () => {
    const waiting = [
      { band: 50, ready_at: 10 },
      { band: 50, ready_at: 30 },
      { band: 100, ready_at: 20 },
      { band: 100, ready_at: 95 },
    ]
    assert.deepEqual(chooseAged(waiting, 5, { nowMs: 100, ageingMs: 50 }), [50, 100, 50])
    assert.deepEqual(chooseAged(waiting, 1, { nowMs: 100, ageingMs: 50 }), [50])
  })

  it('tells a lost connection from a refusal, a conflict and a fault', () => {
    const sent = (code: string, constraint?: string) =>
      Object.assign(new Error('x'), { code, severity: 'ERROR', constraint })
    assert.equal(judgeFailure(sent('57P01')), 'lost')
    assert.equal(judgeFailure(new Error('Connection terminated unexpectedly')), 'lost')
    assert.equal(judgeFailure(Object.assign(new Error('x'), { code: 'ECONNRESET' })), 'lost')
    assert.equal(judgeFailure(sent('40P01')), 'conflict')
    assert.equal(judgeFailure(sent('23505', 'idempotency_pkey')), 'conflict')
    assert.equal(judgeFailure(sent('23505', 'tasks_pkey')), 'fault')
    assert.equal(judgeFailure(sent('53100')), 'refused')
    assert.equal(judgeFailure(sent('57014')), 'refused')
    assert.equal(judgeFailure(new TypeError('x')), 'fault')
  })
})

const skip = await serviceSkip('postgresql')

describe('the PostgreSQL store, several processes on one database', { skip }, () => {
  let database: TestDatabase
  let one: PostgresStore
  let other: PostgresStore

  before(async () => {
    database = await createDatabase()
    one = makeStore(database.url)
    other = makeStore(database.url)
    // At once: one of the two migrates, the other waits for it.
    await Promise.all([one.start(), other.start()])
  })
  beforeEach(() => database.clear())
  after(async () => {
    await one.stop()
    await other.stop()
    await database.drop()
  })

  it('hands none of 10,000 tasks to two claimers', async () => {
    for (let n = 0; n < 10; n += 1) {
      await submitted(one, ...Array.from({ length: 1000 }, (_, index) => ({ tenant: `t${index % 7}` })))
    }
    const seen = new Set<string>()
    let handed = 0
    const work = async (store: PostgresStore) => {
      for (;;) {
        const tasks = await claimed(store, { limit: 97 })
        if (tasks.length === 0) return
        handed += tasks.length
        for (const { task } of tasks) seen.add(task.id)
      }
    }
    await Promise.all([one, other, one, other].map(work))
    assert.equal(handed, 10_000)
    assert.equal(seen.size, 10_000)
    assert.deepEqual(await one.maintenance.check(), [])
    assert.equal(
      (await other.tasks.depths()).reduce((sum, { tasks }) => sum + tasks, 0),
      10_000,
    )
  })

  it('tells the other process of work, of cancels, of changes and of messages', async () => {
    const heard: Wake[] = []
    const leave = other.onWake((wake) => heard.push(wake))
    const [task] = await submitted(one, { notify: true, parent: 'batch_1', position: 0 })
    const [work] = await claimed(one)
    await one.tasks.cancel('acme', task!.id, startMs)
    await settled(one, work!.task, success())
    const wanted: Wake[] = [
      { kind: 'ready', model: 'm' },
      { kind: 'cancel', id: task!.id },
      { kind: 'changed', id: task!.id, parent: 'batch_1' },
      { kind: 'outbox' },
    ]
    for (const wake of wanted) {
      await eventually(`the other hears ${wake.kind}`, () =>
        heard.some((one) => JSON.stringify(one) === JSON.stringify(wake)),
      )
    }
    leave()
  })

  it('hears again after its listening connection was cut', async () => {
    await database.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'autoglm'`,
    )
    let heard = 0
    const leave = other.onWake(() => (heard += 1))
    await eventually('a wake arrives', async () => {
      await one.tasks.submit([newTask()], noLimits)
      return heard > 0
    })
    leave()
  })

  it('shares the lanes: a tenant gains nothing by submitting through two processes', async () => {
    await Promise.all([
      submitted(one, ...Array.from({ length: 50 }, () => ({ tenant: 'a' }))),
      submitted(other, ...Array.from({ length: 50 }, () => ({ tenant: 'a' }))),
    ])
    await submitted(other, ...Array.from({ length: 10 }, () => ({ tenant: 'b' })))
    const tasks = await claimed(one, { limit: 25 })
    assert.equal(tasks.filter(({ task }) => task.tenant === 'b').length, 10)
  })

  it('takes one of two equal keys that reach two processes at the same moment', async () => {
    for (let round = 0; round < 20; round += 1) {
      const key = { idempotencyKey: `key-${round}`, fingerprint: 'f' }
      const outcomes = await Promise.all(
        [one, other, one, other].map(async (store, index) => {
          const [outcome] = await store.tasks.submit([newTask({ ...key, model: `m${index}` })], noLimits)
          return outcome!.kind
        }),
      )
      assert.deepEqual(outcomes.sort(), ['created', 'existing', 'existing', 'existing'])
    }
  })

  it(`lets many tenants submit, claim and settle crosswise without a deadlock (TEST_SEED=${seed})`, async () => {
    let state = seed
    const below = (limit: number) => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff
      return (state >>> 8) % limit
    }
    const submit = (store: PostgresStore) =>
      submitted(store, ...Array.from({ length: 20 }, () => ({ tenant: `t${below(30)}`, band: below(3) })))
    const work = async (store: PostgresStore) => {
      const tasks = await claimed(store, { limit: 40, agedLimit: below(3), nowMs: startMs + 100_000 })
      await Promise.all(tasks.reverse().map(({ task }) => settled(store, task, success())))
    }
    await Promise.all(
      [one, other].flatMap((store) =>
        Array.from({ length: 4 }, async () => {
          for (let round = 0; round < 8; round += 1) {
            await submit(store)
            await work(store)
            await store.tasks.rescue(startMs + 200_000, 3)
          }
        }),
      ),
    )
    const [{ deadlocks } = { deadlocks: -1 }] = await database.query<{ deadlocks: number }>(
      'SELECT deadlocks::integer FROM pg_stat_database WHERE datname = current_database()',
    )
    assert.equal(deadlocks, 0)
    assert.deepEqual(await one.maintenance.check(), [])
  })

  it('finds damage that was done to it', async () => {
    const [task] = await submitted(one, {}, {})
    await database.query('DELETE FROM autoglm.payloads WHERE id = $1', [task!.id])
    await database.query(
      'UPDATE autoglm.deltas SET tasks = (SELECT array_agg(n + 1) FROM unnest(tasks) AS n)',
    )
    await database.query('UPDATE autoglm.tallies SET tasks = tasks + 1')
    const findings = await one.maintenance.check()
    assert(findings.some((finding) => finding.includes(`${task!.id} has no payload`)))
    assert(findings.some((finding) => finding.includes('tenant acme has 2 tasks queued where 3 are counted')))
  })

  it('claims by the index, however many wait', async () => {
    const { rows } = await explainClaim(database)
    assert.match(rows, /Index Scan using tasks_ready/)
    assert.doesNotMatch(rows, /Seq Scan/)
  })
})

async function explainClaim(database: TestDatabase): Promise<{ rows: string }> {
  const lines = await database.query<{ 'QUERY PLAN': string }>(
    `EXPLAIN SELECT id FROM autoglm.tasks WHERE status = 'queued' AND model = 'm'
     ORDER BY band, tag, id LIMIT 10 FOR UPDATE SKIP LOCKED`,
  )
  return { rows: lines.map((line) => line['QUERY PLAN']).join('\n') }
}

describe('the PostgreSQL store as it starts', { skip }, () => {
  let database: TestDatabase
  before(async () => {
    database = await createDatabase()
  })
  after(() => database.drop())

  const refused = async (url: string): Promise<string> => {
    const store = makeStore(url, { limits: { connectTimeoutMs: 2_000 } })
    let message = ''
    await assert.rejects(store.start(), (error) => {
      assert(error instanceof SetupError, String(error))
      message = error.message
      return true
    })
    await store.stop()
    return message
  }

  it('says in one sentence what is wrong, and never the password', async () => {
    const with_ = (change: (url: URL) => void) => {
      const url = new URL(database.url)
      url.password = 'hunter2'
      change(url)
      return url.href
    }
    const cases: [string, RegExp][] = [
      [with_((url) => (url.port = '1')), /nothing listens there/],
      [with_((url) => (url.hostname = 'no-such-host.invalid')), /host name is unknown/],
      [with_((url) => (url.pathname = '/no_such_database')), /does not exist.*createdb no_such_database/],
      [with_((url) => (url.username = 'nobody_here')), /nobody_here/],
      ['postgres://user:hunter2%@127.0.0.1:1/x', /storage\.url/],
      ['postgres://user:hunter2@127.0.0.1:99999999/x', /storage\.url|URL/],
    ]
    for (const [url, expected] of cases) {
      const message = await refused(url)
      assert.match(message, expected)
      assert.doesNotMatch(message, /hunter2/, url)
    }
  })

  it('says which right is missing', async () => {
    await database.query(`DROP ROLE IF EXISTS autoglm_poor_${process.pid}`)
    await database.query(`CREATE ROLE autoglm_poor_${process.pid} LOGIN`)
    try {
      const url = new URL(database.url)
      url.username = `autoglm_poor_${process.pid}`
      assert.match(await refused(url.href), /permission denied.*GRANT CREATE ON DATABASE/)
    } finally {
      await database.query(`DROP ROLE autoglm_poor_${process.pid}`)
    }
  })

  it('goes on after a migration that was cut off, and starts ten at once', async () => {
    const half = [`${migrations[0]}; SELECT pg_terminate_backend(pg_backend_pid())`]
    await assert.rejects(migrate({ url: database.url, limits: defaultLimits, steps: half }), SetupError)
    const stores = Array.from({ length: 10 }, () => makeStore(database.url))
    await Promise.all(stores.map((store) => store.start()))
    assert.equal((await stores[0]!.maintenance.describe()).schemaVersion, migrations.length)
    await Promise.all(stores.map((store) => store.stop()))
  })

  it('refuses a schema that is newer than the program', async () => {
    const client = new pg.Client(database.url)
    await client.connect()
    await client.query('INSERT INTO autoglm.schema_version (version) VALUES (99)')
    const message = await refused(database.url)
    await client.query('DELETE FROM autoglm.schema_version WHERE version = 99')
    await client.end()
    assert.ok(
      message.includes(`version 99, and this program knows versions up to ${migrations.length}`),
      message,
    )
  })

  it('explains what is no error of the server, too', () => {
    const explain = (error: unknown) => explainSetup(error, 'postgres://u:hunter2@h/d').message
    assert.match(explain(new Error('timeout expired')), /timeout expired/)
    assert.match(
      explain(new AggregateError([Object.assign(new Error(''), { code: 'ECONNREFUSED' })])),
      /nothing listens/,
    )
  })
})
