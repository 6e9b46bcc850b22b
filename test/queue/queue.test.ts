import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import pino from 'pino'
import { ApiError, type ErrorCode } from '../../src/core/errors.ts'
import { ProgressBoard } from '../../src/queue/progress.ts'
import { Queue, type TaskNews } from '../../src/queue/queue.ts'
import { bands, type TaskSpec } from '../../src/queue/task.ts'
import { StoreUnavailable, type Store } from '../../src/storage/store.ts'
import { ManualClock } from '../helpers/clock.ts'
import { chatEvent, doneEvent, FakeUpstream } from '../helpers/upstream.ts'
import { chatBody, chatTask } from '../helpers/task-spec.ts'
import { deafen, settings, startWorker } from './harness.ts'

const refused =
  (code: ErrorCode, param: string | null, message = /./) =>
  (error: unknown) => {
    assert(error instanceof ApiError, String(error))
    assert.equal(error.code, code)
    assert.equal(error.param, param)
    assert.match(error.message, message)
    return true
  }

const chat = '/v1/chat/completions'
const work = (body: object): Partial<TaskSpec> => ({ work: { endpoint: chat, body: { ...body } } })
const step = (name: string, content: string, more: object = {}) => ({
  name,
  endpoint: '/v1/chat/completions' as const,
  body: { ...chatBody({ messages: [{ role: 'user', content }] }), ...more },
})

test('what the live route would refuse is refused, and named from the task’s point of view', async () => {
  await using worker = await startWorker({ upstreams: { a: 'http://127.0.0.1:1/v1' } })
  const refuse = (spec: Partial<TaskSpec>, ...what: Parameters<typeof refused>) =>
    assert.rejects(worker.queue.submit(chatTask(spec)), refused(...what))
  await refuse(work({ model: 'm' }), 'invalid_request', 'body.messages', /`body\.messages` is missing/)
  await refuse(work({ model: 'm', messages: [{ role: '' }] }), 'invalid_request', 'body.messages[0].role')
  await refuse(work(chatBody({ model: 'other' })), 'model_not_found', 'body.model')
  await refuse(work(chatBody({ stream: true })), 'invalid_request', 'body.stream')
  await refuse({ work: { endpoint: '/v1/responses', body: { model: 'm' } } }, 'invalid_request', 'body.input')
  await worker.queue.submit(
    chatTask({ work: { endpoint: '/v1/responses', body: { model: 'm', input: 'x', stream: true } } }),
  )
  const sequence = (...steps: ReturnType<typeof step>[]) => ({
    work: { endpoint: 'sequence' as const, steps },
  })
  await refuse(
    sequence(step('a', 'x'), step('b', 'x', { messages: [] })),
    'invalid_request',
    'steps[1].body.messages',
  )
  await refuse(
    sequence(step('a', '{{steps.b.id}}'), step('b', 'x')),
    'invalid_request',
    'steps[0].body',
    /comes later/,
  )
  await refuse(sequence(step('a', '{{steps.a.id}}')), 'invalid_request', 'steps[0].body', /itself/)
  await refuse(
    sequence(step('a', 'x'), step('b', '{{steps.c.id}}')),
    'invalid_request',
    'steps[1].body',
    /no step/,
  )
  await refuse(
    sequence(step('a', 'x'), step('b', '{{steps.a.choices[x]}}')),
    'invalid_request',
    'steps[1].body',
    /can't be read/,
  )
  await refuse(
    sequence(step('a', 'x'), step('b', 'x', { model: '{{steps.a.model}}' })),
    'model_not_found',
    'steps[1].body.model',
  )
  // A typed field may be a reference: what comes of it is checked when the step runs.
  await worker.queue.submit(
    chatTask(sequence(step('a', 'x'), step('b', 'x', { max_tokens: '{{steps.a.n}}' }))),
  )
})

test('of many, a refusal stands at its own place', async () => {
  await using worker = await startWorker({ upstreams: { a: 'http://127.0.0.1:1/v1' } })
  const outcomes = await worker.queue.submitAll([chatTask(), chatTask(work({ model: 'm' })), chatTask()])
  assert.deepEqual(
    outcomes.map((outcome) => outcome instanceof ApiError),
    [false, true, false],
  )
  assert.equal((await worker.queue.list({ tenant: 't', limit: 10 })).length, 2)
})

test('one idempotency key is one task, however its fields are ordered; another body is a conflict', async () => {
  await using worker = await startWorker({ upstreams: { a: 'http://127.0.0.1:1/v1' } })
  const key = { idempotencyKey: 'k' }
  const first = await worker.queue.submit(
    chatTask({ ...key, ...work({ model: 'm', messages: [{ role: 'user', content: 'x' }] }) }),
  )
  const again = await worker.queue.submit(
    chatTask({ ...key, ...work({ messages: [{ content: 'x', role: 'user' }], model: 'm' }) }),
  )
  assert.deepEqual([first.created, again.created, again.task.id], [true, false, first.task.id])
  await assert.rejects(
    worker.queue.submit(chatTask({ ...key, ...work(chatBody({ n: 2 })) })),
    refused('idempotency_conflict', null),
  )
  await assert.rejects(
    worker.queue.submit(chatTask({ ...key, band: 3 })),
    refused('idempotency_conflict', null),
  )
  const other = await worker.queue.submit(chatTask({ ...key, tenant: 'u' }))
  assert.equal(other.created, true)
})

test('a full queue says when to come again, from the pace at which tasks end', async () => {
  await using worker = await startWorker({
    upstreams: { a: 'http://127.0.0.1:1/v1' },
    settings: { concurrencyMax: 0, tenantTasksMax: 1 },
  })
  await worker.submit()
  const retryAfter = async () => {
    const error = await worker.queue.submit(chatTask()).catch((thrown: unknown) => thrown)
    assert(refused('queue_full', null)(error))
    return (error as ApiError).retryAfterMs
  }
  assert.equal(await retryAfter(), 60_000)
  for (let i = 0; i < 6; i += 1) worker.progress.clear('x', { ended: true })
  assert.equal(await retryAfter(), 5_000)
})

test('a store that is away is a refusal that can be retried', async () => {
  await using worker = await startWorker({ upstreams: { a: 'http://127.0.0.1:1/v1' } })
  worker.store.tasks.submit = () => Promise.reject(new StoreUnavailable('the disk is full'))
  await assert.rejects(worker.queue.submit(chatTask()), refused('storage_unavailable', null))
})

test('tasks of other tenants are unknown, and only what may be is requeued and removed', async () => {
  await using worker = await startWorker({ settings: {}, upstreams: { a: 'http://127.0.0.1:1/v1' } })
  worker.settings = { ...worker.settings, concurrencyMax: 0 }
  const id = await worker.submit()
  const { queue } = worker
  for (const ask of [
    queue.get('u', id),
    queue.cancel('u', id),
    queue.requeue('u', id),
    queue.remove('u', id),
  ]) {
    await assert.rejects(ask, refused('task_not_found', 'id'))
  }
  await assert.rejects(queue.remove('t', id), refused('conflict', null))
  await assert.rejects(queue.requeue('t', id), refused('conflict', null, /queued/))
  assert.equal((await queue.cancel('t', id)).status, 'cancelled')
  assert.equal((await queue.requeue('t', id)).status, 'queued')
  await queue.cancel('t', id)
  await queue.remove('t', id)
  await assert.rejects(queue.get('t', id), refused('task_not_found', 'id'))
})

test('a follower hears every state, progress in between, and the end; a second one goes on from its place', async () => {
  let say = (_text: string) => {}
  await using upstream = await FakeUpstream.start((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    say = (text) => (text === '' ? response.end(doneEvent) : response.write(chatEvent(text)))
  })
  await using worker = await startWorker({ upstreams: { a: upstream.url } })
  const id = await worker.submit()
  const heard: TaskNews[] = []
  const signal = new AbortController()
  const following = (async () => {
    for await (const news of worker.queue.follow('t', id, 0, signal.signal)) heard.push(news)
  })()
  await upstream.until(({ requests }) => requests.length === 1)
  for (let i = 0; i < 500; i += 1) say('word ')
  await worker.until('progress is told', () => heard.some(({ kind }) => kind === 'progress'))
  await worker.until('all of it', () =>
    heard.some((news) => news.kind === 'progress' && news.completionTokens === 500),
  )
  const told = heard.filter(({ kind }) => kind === 'progress').length
  assert(told <= 20, `${told} messages for 500 tokens`)
  say('')
  await following
  const states = heard.flatMap((news) => (news.kind === 'event' ? [news.event.status] : []))
  assert.deepEqual(states, ['queued', 'running', 'succeeded'])
  const later: TaskNews[] = []
  for await (const news of worker.queue.follow('t', id, 2, signal.signal)) later.push(news)
  assert.deepEqual(
    later.map((news) => news.kind === 'event' && news.event.seq),
    [3],
  )
})

test('a follower leaves at once when it is told to, wakes by itself when no one rings, and is refused a stranger’s task', async () => {
  await using worker = await startWorker({
    upstreams: { a: 'http://127.0.0.1:1/v1' },
    settings: { concurrencyMax: 0 },
  })
  const id = await worker.submit()
  const leave = new AbortController()
  const news = worker.queue.follow('t', id, 1, leave.signal)
  const first = news.next()
  leave.abort()
  assert.deepEqual(await first, { value: undefined, done: true })
  await assert.rejects(
    worker.queue.follow('u', id, 0, new AbortController().signal).next(),
    refused('task_not_found', 'id'),
  )

  const deaf = worker.beside({ store: deafen(worker.store) })
  const next = deaf.queue.follow('t', id, 1, new AbortController().signal).next()
  let isHeard = false
  void next.then(() => (isHeard = true))
  await worker.queue.cancel('t', id)
  await worker.until('the poll finds it', () => isHeard, 100)
  assert.equal(((await next).value as { event: { status: string } }).event.status, 'cancelled')
})

test('a tenant gets no more urgent band than it may have, and no model that it may not use', async () => {
  await using worker = await startWorker({ upstreams: { a: 'http://127.0.0.1:1/v1' } })
  const submit = (tenant: string, band: number) => worker.queue.submit(chatTask({ tenant, band }))
  assert.equal((await submit('humble', bands.urgent)).task.band, bands.low)
  assert.equal((await submit('humble', bands.batch)).task.band, bands.batch)
  await assert.rejects(submit('barred', bands.normal), refused('model_not_found', 'body.model'))
})

test('a fault in checking a budget is a refusal for its tenant alone, and is logged', async () => {
  const lines: string[] = []
  const clock = new ManualClock()
  const queue = new Queue({
    store: { onWake: () => () => {} } as unknown as Store,
    clock,
    settings: () => settings,
    rulesOf: (tenant) => ({
      ...{ weight: 1, bandMin: 0, mayUse: () => false },
      checkBudget: () => {
        if (tenant === 'odd') throw new TypeError('a fault of ours')
      },
    }),
    isServed: () => true,
    progress: new ProgressBoard(clock),
    log: pino({}, { write: (line: string) => void lines.push(line) }),
  })
  const outcomes = await queue.submitAll([chatTask({ tenant: 'odd' }), chatTask()])
  assert.deepEqual(outcomes.map((outcome) => (outcome as ApiError).code), ['internal', 'model_not_found']) // prettier-ignore
  assert.equal(lines.length, 1)
  assert.match(lines[0] ?? '', /a fault of ours/)
})
