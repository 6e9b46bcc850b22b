import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { answerChat, chatEvent, FakeUpstream, type Behaviour } from '../helpers/upstream.ts'
import { chatBody, chatTask } from '../helpers/task-spec.ts'
import { startWorker, type Worker } from './harness.ts'

const hang: Behaviour = (_request, response) => {
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  response.write(chatEvent('Hel'))
}

const submitMany = (worker: Worker, count: number, model = 'm') =>
  worker.queue.submitAll(
    Array.from({ length: count }, () =>
      chatTask({ work: { endpoint: '/v1/chat/completions', body: chatBody({ model }) } }),
    ),
  )

/** As many tasks as may run do, and time brings no more. */
async function settle(worker: Worker, tasks: number): Promise<void> {
  await worker.until(`${tasks} tasks run`, () => worker.dispatcher.running === tasks, 250)
  for (let i = 0; i < 20; i += 1) {
    worker.clock.advance(500)
    await worker.stored()
  }
  assert.equal(worker.dispatcher.running, tasks)
}

test('tasks leave the reserve free, and make room for live requests as they come', async () => {
  await using upstream = await FakeUpstream.start(hang)
  await using worker = await startWorker({
    upstreams: { a: upstream.url },
    slots: 8,
    settings: { liveReserve: 0.25 },
  })
  await submitMany(worker, 20)
  await settle(worker, 6)
  // Four live requests come, and tasks that end are not followed by others until they fit.
  const [instance] = worker.registry.all
  instance!.inFlight += 4
  for (let i = 0; i < 4; i += 1) worker.live.began('m')
  const rows = await worker.queue.list({ tenant: 't', statuses: ['running'], limit: 3 })
  for (const { id } of rows) await worker.queue.cancel('t', id)
  await settle(worker, 3)
  await worker.queue.cancel(
    't',
    (await worker.queue.list({ tenant: 't', statuses: ['running'], limit: 1 }))[0]!.id,
  )
  await settle(worker, 2)
  instance!.inFlight -= 4
  for (let i = 0; i < 4; i += 1) worker.live.ended('m', false)
  await settle(worker, 6)
})

test('an instance that is down or rests gets no tasks, and they wait', async () => {
  await using upstream = await FakeUpstream.start(answerChat())
  await using worker = await startWorker({ upstreams: { a: upstream.url } })
  const [instance] = worker.registry.all
  worker.registry.move(instance!, 'unready')
  const id = await worker.submit()
  await settle(worker, 0)
  worker.registry.move(instance!, 'ready')
  instance!.busyUntilMs = worker.clock.now() + 30_000
  await settle(worker, 0)
  const { task } = await worker.reach(id, 'succeeded', 1_000)
  assert.equal(task.attempt, 1)
  assert(worker.clock.now() >= 30_000)
})

test('models on the same instance share its slots by turns', async () => {
  let active = { m: 0, n: 0 }
  await using upstream = await FakeUpstream.start((request, response, socket) => {
    active = { ...active, [request.json['model'] as 'm']: active[request.json['model'] as 'm'] + 1 }
    return answerChat()(request, response, socket)
  })
  await using worker = await startWorker({ upstreams: { a: upstream.url }, slots: 2, models: ['m', 'n'] })
  await submitMany(worker, 60, 'm')
  await submitMany(worker, 5, 'n')
  await worker.until('all of n are done', () => active.n === 5)
  assert(active.m < 40, `${active.m} of m ran before the five of n`)
  await worker.until('all are done', async () => (await worker.queue.count('t')).succeeded === 65)
})
