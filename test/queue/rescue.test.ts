import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { answerChat, FakeUpstream } from '../helpers/upstream.ts'
import { startWorker, type Worker } from './harness.ts'

const hourMs = 3_600_000

/** The model is served, and this process runs nothing. */
const nobody = { upstreams: { a: 'http://127.0.0.1:1/v1' }, settings: { leaseMs: 3_000, concurrencyMax: 0 } }

/** Takes the task as a worker that dies at once: it never renews and never settles. */
async function claimAndDie(worker: Worker): Promise<number> {
  const claimed = await worker.store.tasks.claim({
    model: 'm',
    owner: 'doomed',
    nowMs: worker.clock.wallMs(),
    leaseMs: worker.settings.leaseMs,
    limit: 1,
    agedLimit: 0,
    ageingMs: 60_000,
  })
  return claimed.length
}

/** Renewals begin, and reach the store only when they are let go. */
function holdRenewals({ store }: Worker): { release: () => void } {
  const tasks = { ...store.tasks }
  const gate = Promise.withResolvers<void>()
  store.tasks.renew = async (leases, untilMs) => {
    await gate.promise
    return tasks.renew(leases, untilMs)
  }
  return {
    release: () => {
      store.tasks.renew = (leases, untilMs) => tasks.renew(leases, untilMs)
      gate.resolve()
    },
  }
}

/** Time in steps that no one takes for a process that stood still. */
async function pass(worker: Worker, ms: number, stepMs = 500): Promise<void> {
  for (let passed = 0; passed < ms; passed += stepMs) {
    worker.clock.advance(stepMs)
    await worker.stored()
  }
}

test('a poison task that kills every worker ends dead after its attempts', async () => {
  await using worker = await startWorker(nobody)
  const id = await worker.submit({ attemptsMax: 2 })
  for (const attempt of [1, 2]) {
    assert.equal(await claimAndDie(worker), 1)
    await worker.reach(id, attempt < 2 ? 'queued' : 'dead', 250)
  }
  const { task, history } = (await worker.store.tasks.get('t', id))!
  assert.equal(task.error?.code, 'worker_lost')
  assert.deepEqual(
    history.map(({ status }) => status),
    ['queued', 'running', 'queued', 'running', 'dead'],
  )
})

test('delayed tasks come when their time has come', async () => {
  await using upstream = await FakeUpstream.start()
  await using worker = await startWorker({ upstreams: { a: upstream.url } })
  const id = await worker.submit({ runAtMs: worker.clock.wallMs() + 3_000 })
  await pass(worker, 2_000)
  assert.equal((await worker.store.tasks.find(id))?.status, 'delayed')
  const { task } = await worker.reach(id, 'succeeded')
  assert(task.startedAtMs! >= task.runAtMs!)
  assert(task.startedAtMs! - task.runAtMs! <= 3_000)
})

for (const jumpMs of [hourMs, -hourMs]) {
  test(`a wall clock that jumps by ${jumpMs / hourMs} h does not take a task from a worker that is well`, async () => {
    let finish = () => {}
    await using upstream = await FakeUpstream.start((request, response, socket) => {
      finish = () => answerChat()(request, response, socket)
    })
    await using worker = await startWorker({ upstreams: { a: upstream.url }, settings: { leaseMs: 3_000 } })
    const id = await worker.submit({ deadlineMs: worker.clock.wallMs() + 4 * hourMs })
    await upstream.until(({ requests }) => requests.length === 1)
    await pass(worker, 5_000)
    // The rescue looks before the worker has renewed anything by the new time.
    const renewal = holdRenewals(worker)
    worker.clock.wallOffsetMs += jumpMs
    await pass(worker, 2_000)
    renewal.release()
    await pass(worker, 20_000)
    assert.equal((await worker.store.tasks.find(id))?.status, 'running')
    finish()
    const { task } = await worker.reach(id, 'succeeded', 0)
    assert.equal(task.attempt, 1)
  })
}

test('after a jump of the clock dead workers are still found', async () => {
  await using worker = await startWorker(nobody)
  const id = await worker.submit()
  await claimAndDie(worker)
  worker.clock.wallOffsetMs += hourMs
  // Less than the grace of a lease: it is left alone although it looks long overdue.
  await pass(worker, 2_000)
  assert.equal((await worker.store.tasks.find(id))?.status, 'running')
  await worker.reach(id, 'queued', 250)
})

test('a process that stood still for two leases does not rescue its own tasks', async () => {
  let finish = () => {}
  await using upstream = await FakeUpstream.start((request, response, socket) => {
    finish = () => answerChat()(request, response, socket)
  })
  await using worker = await startWorker({ upstreams: { a: upstream.url }, settings: { leaseMs: 3_000 } })
  const id = await worker.submit()
  await upstream.until(({ requests }) => requests.length === 1)
  await pass(worker, 1_000)
  // The rescue's timer fires first, and late; the renewal comes after it.
  const renewal = holdRenewals(worker)
  worker.clock.standStill(6_000)
  await pass(worker, 1_500)
  renewal.release()
  await pass(worker, 6_000)
  finish()
  const { task } = await worker.reach(id, 'succeeded', 0)
  assert.equal(task.attempt, 1)
})

test('ended tasks are kept no longer than was asked', async () => {
  await using upstream = await FakeUpstream.start()
  await using worker = await startWorker({ upstreams: { a: upstream.url } })
  const id = await worker.submit()
  await worker.reach(id, 'succeeded')
  worker.clock.wallOffsetMs += 8 * 24 * hourMs
  await worker.until('it is gone', async () => (await worker.store.tasks.find(id)) === null, 5_000)
})

test('ended tasks go after the time of their tenant', async () => {
  await using worker = await startWorker(nobody)
  worker.keepTimes = {
    keepMs: 4 * hourMs,
    own: [
      { tenant: 'brief', keepMs: hourMs },
      { tenant: 'thrifty', keepMs: 9 * hourMs },
    ],
    finishedMax: 1_000,
  }
  const tenants = ['brief', 't', 'thrifty']
  const ids = new Map<string, string>()
  for (const tenant of tenants) {
    const id = await worker.submit({ tenant })
    ids.set(tenant, id)
    await worker.queue.cancel(tenant, id)
  }
  const waiting = await worker.submit({ tenant: 'brief' })
  const left = async () => {
    const found = await Promise.all(tenants.map((tenant) => worker.store.tasks.find(ids.get(tenant)!)))
    return tenants.filter((_, index) => found[index])
  }
  const after = async (ms: number) => {
    worker.clock.advance(ms)
    // The jump is taken for a standstill, which keeps nothing from being pruned.
    await pass(worker, 62_000, 2_000)
    return left()
  }
  assert.deepEqual(await after(0), tenants)
  assert.deepEqual(await after(hourMs), ['t', 'thrifty'])
  assert.deepEqual(await after(2 * hourMs), ['t', 'thrifty'])
  assert.deepEqual(await after(hourMs), ['thrifty'])
  assert.deepEqual(await after(5 * hourMs), [])
  assert.equal((await worker.store.tasks.find(waiting))?.status, 'queued')
})
