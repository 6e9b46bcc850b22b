import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { StoreUnavailable } from '../../src/storage/store.ts'
import {
  answerChat,
  chatEvent,
  FakeUpstream,
  sendJson,
  wholeChat,
  type Behaviour,
} from '../helpers/upstream.ts'
import { chatBody, chatTask } from '../helpers/task-spec.ts'
import { deafen, readJson, startWorker } from './harness.ts'

/** Begins an answer, and never ends it. */
const hang: Behaviour = (_request, response) => {
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  response.write(chatEvent('Hel'))
}

test('a task runs as soon as it is submitted; its result is what the live route would have answered', async () => {
  await using upstream = await FakeUpstream.start()
  await using worker = await startWorker({ upstreams: { a: upstream.url } })
  const id = await worker.submit()
  const { task, result, history } = await worker.reach(id, 'succeeded', 0)
  const choice = {
    index: 0,
    message: { role: 'assistant', content: 'Hello.' },
    logprobs: null,
    finish_reason: null,
  }
  assert.deepEqual(readJson(result), { ...wholeChat(), choices: [choice] })
  assert.deepEqual(task.usage, { promptTokens: 5, completionTokens: 3, cachedTokens: 0 })
  assert.deepEqual(
    history.map(({ status, instance }) => [status, instance]),
    [['queued', null], ['running', null], ['succeeded', 'a']],
  ) // prettier-ignore
  assert.equal(upstream.requests[0]!.headers['x-request-id'], `${id}-1`)
})

test('a running task is cancelled at once, and the call to the instance is cut', async () => {
  await using upstream = await FakeUpstream.start(hang)
  await using worker = await startWorker({ upstreams: { a: upstream.url } })
  const id = await worker.submit()
  await upstream.until(({ active }) => active === 1)
  const row = await worker.queue.cancel('t', id)
  assert.equal(row.cancelRequested, true)
  // Woken by the cancel itself: no time passes.
  const { task } = await worker.reach(id, 'cancelled', 0)
  await upstream.until(({ abandoned }) => abandoned === 1)
  assert.equal(task.error, null)
})

test('a cancel that no wake tells of is found by the next look at the leases', async () => {
  await using upstream = await FakeUpstream.start(hang)
  await using worker = await startWorker({ upstreams: { a: upstream.url } })
  const id = await worker.submit()
  await upstream.until(({ active }) => active === 1)
  const deaf = worker.beside({ store: deafen(worker.store) })
  await deaf.queue.cancel('t', id)
  await worker.reach(id, 'cancelled', 100)
  await upstream.until(({ abandoned }) => abandoned === 1)
})

test('what an instance asks its callers to wait is waited before the next attempt', async () => {
  let calls = 0
  await using upstream = await FakeUpstream.start((request, response, socket) => {
    calls += 1
    if (calls === 1)
      return sendJson(response, 429, { error: { message: 'slow down' } }, { 'retry-after': '20' })
    return answerChat()(request, response, socket)
  })
  await using worker = await startWorker({ upstreams: { a: upstream.url } })
  const id = await worker.submit()
  const { task } = await worker.reach(id, 'delayed', 0)
  assert.equal(task.error?.code, 'rate_limited')
  assert(task.runAtMs! - worker.clock.wallMs() >= 19_000)
  worker.clock.advance(15_000)
  await worker.stored()
  assert.equal((await worker.store.tasks.find(id))?.status, 'delayed')
  const { history } = await worker.reach(id, 'succeeded', 500)
  const begins = history.filter(({ status }) => status === 'running').map(({ atMs }) => atMs)
  assert(begins.length === 2 && begins[1]! - begins[0]! >= 20_000, String(begins))
})

test('attempts grow apart, and the last one ends in the dead letters with its error, from where it is queued again', async () => {
  let broken = true
  await using upstream = await FakeUpstream.start((request, response, socket) =>
    broken
      ? sendJson(response, 500, { error: { message: 'boom' } })
      : answerChat()(request, response, socket),
  )
  await using worker = await startWorker({ upstreams: { a: upstream.url } })
  const id = await worker.submit()
  const { task, history } = await worker.reach(id, 'dead', 200)
  assert.equal(task.attempt, 3)
  assert.match(task.error!.message, /boom/)
  const retries = history.filter(({ status }) => status === 'delayed')
  assert.equal(retries.length, 2)
  const begins = history.filter(({ status }) => status === 'running').map(({ atMs }) => atMs)
  assert(begins[1]! - begins[0]! >= 1_000 && begins[2]! - begins[1]! >= 2_000, String(begins))
  broken = false
  await worker.queue.requeue('t', id)
  await worker.reach(id, 'succeeded')
})

test('a complaint about the request itself is final at once, and kept', async () => {
  const body = {
    error: { message: 'no such tool', type: 'invalid_request_error', param: 'tools', code: 'bad_tool' },
  }
  await using upstream = await FakeUpstream.start((_request, response) => sendJson(response, 400, body))
  await using worker = await startWorker({ upstreams: { a: upstream.url } })
  const { task, result } = await worker.reach(await worker.submit(), 'dead', 0)
  assert.equal(task.attempt, 1)
  assert.deepEqual(task.error, { code: 'bad_tool', message: 'no such tool' })
  assert.deepEqual(readJson(result), body)
})

test('a running task ends at its deadline, although its instance would go on', async () => {
  await using upstream = await FakeUpstream.start(hang)
  await using worker = await startWorker({ upstreams: { a: upstream.url } })
  const id = await worker.submit({ deadlineMs: worker.clock.wallMs() + 5_000 })
  await upstream.until(({ active }) => active === 1)
  worker.clock.advance(4_000)
  await worker.stored()
  assert.equal((await worker.store.tasks.find(id))?.status, 'running')
  worker.clock.advance(1_500)
  const { task } = await worker.reach(id, 'expired', 0)
  assert.equal(task.error?.code, 'expired')
  await upstream.until(({ abandoned }) => abandoned === 1)
})

test('a queued task expires at its deadline where nothing can run it', async () => {
  await using worker = await startWorker({ models: ['m'] })
  const instance = worker.addInstance('a', 'http://127.0.0.1:1/v1', { slots: 1, models: ['m'] })
  worker.registry.move(instance, 'unready')
  const id = await worker.submit({ deadlineMs: worker.clock.wallMs() + 2_000 })
  const { task } = await worker.reach(id, 'expired', 100)
  assert.equal(task.attempt, 0)
})

test('an attempt that takes too long is tried again', async () => {
  await using upstream = await FakeUpstream.start(hang)
  await using worker = await startWorker({
    upstreams: { a: upstream.url },
    settings: { attemptTimeoutMs: 3_000 },
  })
  const id = await worker.submit({ attemptsMax: 1 })
  await upstream.until(({ active }) => active === 1)
  const { task } = await worker.reach(id, 'dead', 200)
  assert.equal(task.error?.code, 'upstream_timeout')
})

test('a task with several attempts left is released at a stop, and costs none of them', async () => {
  await using upstream = await FakeUpstream.start(hang)
  await using worker = await startWorker({ upstreams: { a: upstream.url } })
  const id = await worker.submit()
  await upstream.until(({ active }) => active === 1)
  await worker.stop()
  await upstream.until(({ abandoned }) => abandoned === 1)
  const row = (await worker.store.tasks.find(id))!
  assert.equal(row.status, 'queued')
  assert.equal(row.attemptsMax - row.attempt, 3)
  upstream.behave = answerChat()
  const other = await worker.beside().start()
  await other.reach(id, 'succeeded', 0)
})

test('a stop waits for tasks that end in time', async () => {
  let finish = () => {}
  await using upstream = await FakeUpstream.start((request, response, socket) => {
    finish = () => answerChat()(request, response, socket)
  })
  await using worker = await startWorker({ upstreams: { a: upstream.url }, drainMs: 60_000 })
  const id = await worker.submit()
  await upstream.until(({ requests }) => requests.length === 1)
  const stopped = worker.dispatcher.stop()
  finish()
  await stopped
  assert.equal((await worker.store.tasks.find(id))?.status, 'succeeded')
})

test('a cut during the stop gives the tasks back at once, at no cost', async () => {
  await using upstream = await FakeUpstream.start(hang)
  await using worker = await startWorker({ upstreams: { a: upstream.url }, drainMs: 60_000 })
  const id = await worker.submit()
  await upstream.until(({ active }) => active === 1)
  const stopped = worker.dispatcher.stop()
  worker.dispatcher.cut()
  await stopped
  const row = (await worker.store.tasks.find(id))!
  assert.deepEqual([row.status, row.attemptsMax - row.attempt], ['queued', 3])
})

test('a result is kept until the store takes it', async () => {
  let away = 3
  await using upstream = await FakeUpstream.start()
  await using worker = await startWorker({ upstreams: { a: upstream.url } })
  const tasks = { ...worker.store.tasks }
  worker.store.tasks.settle = (settlements) => {
    away -= 1
    return away >= 0 ? Promise.reject(new StoreUnavailable('the disk is full')) : tasks.settle(settlements)
  }
  const id = await worker.submit()
  const { task } = await worker.reach(id, 'succeeded')
  assert.equal(task.attempt, 1)
  assert.equal(upstream.requests.length, 1)
})

test('one settlement that the store can not take does not harm those settled with it', async () => {
  await using upstream = await FakeUpstream.start()
  await using worker = await startWorker({ upstreams: { a: upstream.url }, settings: { leaseMs: 3_000 } })
  const tasks = { ...worker.store.tasks }
  let bad = ''
  worker.store.tasks.settle = (settlements) =>
    settlements.some((one) => one.id === bad)
      ? Promise.reject(new Error('too large'))
      : tasks.settle(settlements)
  const submitted = await worker.queue.submitAll(Array.from({ length: 8 }, () => chatTask()))
  const ids = submitted.map((one) => (one as { task: { id: string } }).task.id)
  bad = ids[3]!
  for (const id of ids) if (id !== bad) await worker.reach(id, 'succeeded')
})

test('the late result of a lost lease is refused, and the one that counts is the other worker’s', async () => {
  const answers: (() => void)[] = []
  await using upstream = await FakeUpstream.start((request, response, socket) => {
    answers.push(() => answerChat([`answer ${answers.length}`])(request, response, socket))
  })
  await using worker = await startWorker({ upstreams: { a: upstream.url } })
  const id = await worker.submit()
  await upstream.until(({ requests }) => requests.length === 1)
  // Stopped past its lease: it renews nothing. Others rescue its task.
  worker.store.tasks.renew = () => new Promise(() => {})
  await worker.rescue.stop()
  worker.clock.advance(1_000)
  const rescued = await worker.store.tasks.rescue(worker.clock.wallMs() + 60_000, 10)
  assert.deepEqual(
    rescued.map((moved) => moved.id),
    [id],
  )
  await upstream.until(({ requests }) => requests.length === 2)
  answers[0]!()
  await worker.until('the loss is counted', async () =>
    /autoglm_task_leases_lost_total 1/.test(await worker.metrics.expose()),
  )
  assert.equal((await worker.store.tasks.find(id))?.status, 'running')
  answers[1]!()
  const { task } = await worker.reach(id, 'succeeded', 0)
  assert.equal(task.attempt, 2)
})

test('a renewal that finds the lease lost cuts the call', async () => {
  await using upstream = await FakeUpstream.start(hang)
  await using worker = await startWorker({ upstreams: { a: upstream.url }, settings: { concurrencyMax: 1 } })
  await worker.submit()
  await upstream.until(({ active }) => active === 1)
  worker.settings = { ...worker.settings, concurrencyMax: 0 }
  await worker.store.tasks.rescue(worker.clock.wallMs() + 60_000, 10)
  worker.clock.advance(500)
  await upstream.until(({ abandoned }) => abandoned === 1)
  await worker.until('nothing runs', () => worker.dispatcher.running === 0)
})

test('tasks of aliases run, and concurrencyMax holds', async () => {
  let most = 0
  await using upstream = await FakeUpstream.start(async (request, response, socket) => {
    most = Math.max(most, upstream.active)
    // Nobody is answered alone, until the last ones.
    await upstream.until(({ active, requests }) => active >= 3 || requests.length >= 38)
    answerChat()(request, response, socket)
  })
  await using worker = await startWorker({ upstreams: { a: upstream.url }, settings: { concurrencyMax: 3 } })
  const body = chatBody({ model: 'nick' })
  // No live request was ever seen: the window is open.
  worker.clock.advance(2_000)
  const specs = Array.from({ length: 40 }, () =>
    chatTask({ work: { endpoint: '/v1/chat/completions', body } }),
  )
  await worker.queue.submitAll(specs)
  await worker.until('all are done', async () => (await worker.queue.count('t')).succeeded === 40, 250)
  assert.equal(most, 3)
  // The storage knows of an end before the one who asked for it does.
  await worker.until('all ends are counted', async () =>
    /autoglm_task_settles_total\{outcome="succeeded"\} 40/.test(await worker.metrics.expose()),
  )
})
