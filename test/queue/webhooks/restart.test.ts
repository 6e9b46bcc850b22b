import { strict as assert } from 'node:assert'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import pino from 'pino'
import { systemClock } from '../../../src/core/clock.ts'
import { WebhookSender } from '../../../src/queue/webhooks/sender.ts'
import { SqliteStore } from '../../../src/storage/sqlite/sqlite-store.ts'
import type { NewTask } from '../../../src/storage/task-store.ts'
import { makeTaskId } from '../../../src/storage/task-id.ts'
import { eventually } from '../../helpers/server.ts'
import { FakeUpstream } from '../../helpers/upstream.ts'

const log = pino({ level: 'silent' })
const clock = systemClock
const limits = { tenantTasksMax: 100, tenantBytesMax: 1e6, tasksMax: 100, bytesMax: 1e6 }
const rules = { secrets: [Buffer.alloc(32, 7)], allowPrivate: true, timeoutMs: 10_000, attemptsMax: 8 }

/** A task that has ended, and whose end is to be told. */
async function endTask(store: SqliteStore, url: string): Promise<string> {
  const nowMs = clock.wallMs()
  const payload = Buffer.from(JSON.stringify({ work: { endpoint: '/v1/completions', body: {} }, webhook: { url } })) // prettier-ignore
  const task: NewTask = {
    id: makeTaskId('task', nowMs), tenant: 'acme', endpoint: '/v1/completions', model: 'm', band: 50, cost: 1,
    createdAtMs: nowMs, runAtMs: null, deadlineMs: null, attemptsMax: 5, parent: null, position: null,
    idempotencyKey: null, fingerprint: null, metadata: {}, notify: true, payload,
  } // prettier-ignore
  await store.tasks.submit([task], limits)
  await store.tasks.claim({ model: 'm', owner: 'w', nowMs, leaseMs: 60_000, limit: 1, agedLimit: 0, ageingMs: 60_000 }) // prettier-ignore
  const outcome = { kind: 'dead', error: { code: 'upstream_failed', message: 'It fell over.' } } as const
  await store.tasks.settle([{ id: task.id, attempt: 1, nowMs, instance: null, outcome }])
  return task.id
}

test('what was not delivered before a restart is delivered after it, under the same id', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'autoglm-hooks-'))
  t.after(() => rm(folder, { recursive: true }))
  let isUp = false
  const receiver = await FakeUpstream.start((_request, response) => {
    if (isUp) response.writeHead(204).end()
  })
  t.after(() => receiver.stop())
  const ends: string[] = []
  const count = (kind: string) => void ends.push(kind)
  // The delay before the second delivery passes while nothing runs.
  const open = async (laterMs: number) => {
    const store = new SqliteStore({ path: join(folder, 'tasks.db'), clock, log })
    await store.start()
    const later = { ...clock, wallMs: () => clock.wallMs() + laterMs }
    const sender = new WebhookSender({ store, clock: later, settings: () => rules, log, count })
    await sender.start()
    return { store, sender }
  }
  const first = await open(0)
  const id = await endTask(first.store, `http://127.0.0.1:${receiver.port}/hook`)
  await receiver.until(() => receiver.active === 1)
  receiver.cut()
  await first.sender.stop()
  await first.store.stop()
  isUp = true
  const second = await open(10_000)
  t.after(async () => {
    await second.sender.stop()
    await second.store.stop()
  })
  await eventually('it is delivered', () => receiver.requests.length === 2, 10_000)
  const [before, after] = receiver.requests
  assert.equal(before?.headers['webhook-id'], after?.headers['webhook-id'])
  const data = after?.json['data'] as Record<string, unknown>
  assert.equal(after?.json['type'], 'task.dead')
  assert.deepEqual([data['id'], data['error']], [id, { code: 'upstream_failed', message: 'It fell over.' }])
  await eventually('it is settled', () => ends.includes('delivered'))
  assert.deepEqual(await second.store.outbox.claim(clock.wallMs() + 1e9, 1, 10), [])
})
