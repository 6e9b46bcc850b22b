import { strict as assert } from 'node:assert'
import { mkdtemp, rm } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import OpenAI from 'openai'
import { startGateway, upstream } from '../helpers/gateway.ts'
import { ResponseServer } from '../helpers/response-server.ts'
import { eventually } from '../helpers/server.ts'
import { answerChat, chatEvent, doneEvent, FakeUpstream, sendJson, usageEvent } from '../helpers/upstream.ts'

type Event = OpenAI.Responses.ResponseStreamEvent

const connect = ({ url }: { url: string }) =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 })
const asked = { model: 'm', input: 'Hi', background: true } as const
const streamed = { ...asked, stream: true } as const

async function setUp(t: { after(run: () => Promise<void>): void }, config = {}, behave = answerChat()) {
  const fake = await FakeUpstream.start(behave)
  const server = await ResponseServer.start({ upstreams: [fake.url], config })
  t.after(async () => {
    await server[Symbol.asyncDispose]()
    await fake.stop()
  })
  return { fake, server, client: connect(server) }
}

/** An instance that says what the test says, when it says it. */
function speaker() {
  const open: ServerResponse[] = []
  const behave = (_request: unknown, response: ServerResponse) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.flushHeaders()
    open.push(response)
  }
  const say = (...words: string[]) => open.at(-1)?.write(words.map((word) => chatEvent(word)).join(''))
  return {
    behave,
    say,
    end: () => open.at(-1)?.end(usageEvent + doneEvent),
    cut: () => open.at(-1)?.destroy(),
  }
}

async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = []
  for await (const item of source) items.push(item)
  return items
}

/** Reads until an event fulfils `isEnough`, and leaves. */
async function readUntil(
  source: AsyncIterable<Event>,
  isEnough: (event: Event) => boolean,
): Promise<Event[]> {
  const events: Event[] = []
  for await (const event of source) {
    events.push(event)
    if (isEnough(event)) break
  }
  return events
}

const saidIn = (events: readonly Event[]) =>
  events.map((event) => (event.type === 'response.output_text.delta' ? event.delta : '')).join('')

const idOf = (event: Event | undefined) => {
  assert.ok(event && 'response' in event)
  return event.response.id
}

test('a background response is queued, made, shown and gone on from', async (t) => {
  const { fake, server, client } = await setUp(t)
  const queued = await client.responses.create(asked)
  assert.deepEqual([queued.status, queued.background, queued.output], ['queued', true, []])
  assert.equal((await client.responses.retrieve(queued.id)).status, 'queued')
  assert.equal(fake.requests.length, 0)
  await assert.rejects(client.responses.delete(queued.id), { status: 409 })
  await assert.rejects(client.responses.create({ model: 'm', input: 'x', previous_response_id: queued.id }), {
    status: 404,
    param: 'previous_response_id',
  })
  const before = await client.responses.inputItems.list(queued.id)
  assert.equal(await server.work(), 'succeeded')
  const made = await client.responses.retrieve(queued.id)
  assert.deepEqual(
    [made.status, made.output_text, made.created_at],
    ['completed', 'Hello.', queued.created_at],
  )
  assert.deepEqual((await client.responses.inputItems.list(queued.id)).data, before.data)
  const next = await client.responses.create({ model: 'm', input: 'x', previous_response_id: queued.id })
  assert.equal(next.output_text, 'Hello.')
  assert.equal((fake.requests.at(-1)?.json['messages'] as unknown[] | undefined)?.length, 3)
  await assert.rejects(client.responses.retrieve(queued.id, { stream: true }), {
    status: 400,
    param: 'stream',
  })

  await client.responses.delete(queued.id)
  await assert.rejects(client.responses.retrieve(queued.id), { status: 404, code: 'response_not_found' })
  await assert.rejects(client.responses.delete(queued.id), { status: 404 })
})

test('what is wrong with it is said at once, and what becomes wrong later in its state', async (t) => {
  const { fake, server, client } = await setUp(t)
  await assert.rejects(client.responses.create({ ...asked, model: 'x' }), {
    status: 404,
    code: 'model_not_found',
  })
  await assert.rejects(client.responses.create({ ...asked, store: false }), { status: 400, param: 'store' })
  await assert.rejects(client.responses.create({ ...asked, previous_response_id: 'resp_x' }), { status: 404 })
  const refused = (_request: unknown, response: ServerResponse) =>
    sendJson(response, 400, { error: { message: 'no such image', code: 'invalid_image' } })
  for (const stream of [false, true]) {
    fake.behave = refused
    const { id } = await client.responses.create({ ...asked, background: true, stream: false })
    assert.equal(await server.work(), 'dead')
    const failed = await client.responses.retrieve(id)
    assert.deepEqual(
      [failed.status, failed.error?.code, failed.error?.message],
      ['failed', 'invalid_image', 'no such image'],
    )
    if (!stream) continue
    const reading = client.responses.create(streamed).then(collect)
    await eventually('it waits', async () => (await server.tasks.store.tasks.waitingModels()).length > 0)
    assert.equal(await server.work(), 'dead')
    const events = await reading
    assert.deepEqual(
      events.map(({ type }) => type),
      ['response.created', 'response.queued', 'response.in_progress', 'response.failed'],
    )
  }
})

test('an idempotency key gives one response', async (t) => {
  const { client } = await setUp(t)
  const options = { idempotencyKey: 'k1', headers: { 'Idempotency-Key': 'k1' } }
  const first = await client.responses.create(asked, options)
  assert.equal((await client.responses.create(asked, options)).id, first.id)
  await assert.rejects(client.responses.create({ ...asked, input: 'other' }, options), { status: 409 })
})

test('a background stream is followed, left, and taken up again without a gap or a double', async (t) => {
  const { behave, say, end } = speaker()
  const { fake, server, client } = await setUp(t, {}, behave)
  const stream = await client.responses.create(streamed)
  const reading = readUntil(stream, (event) => event.type === 'response.output_text.delta')
  await eventually('it waits', async () => (await server.tasks.store.tasks.waitingModels()).length > 0)
  const working = server.work()
  await fake.until(({ requests }) => requests.length === 1)
  say('one ')
  const first = await reading
  const id = idOf(first[0])
  assert.equal(saidIn(first), 'one ')
  await assert.rejects(client.responses.retrieve(id, { stream: true, starting_after: 999 }), {
    status: 400,
    param: 'starting_after',
  })
  say('two ', 'three ')
  const after = first.at(-1)?.sequence_number ?? -1
  const second = await readUntil(
    await client.responses.retrieve(id, { stream: true, starting_after: after }),
    (event) => event.type === 'response.output_text.delta' && event.delta === 'two ',
  )
  // Nobody reads now, and the work goes on.
  assert.equal(fake.abandoned, 0)
  say('four')
  end()
  assert.equal(await working, 'succeeded')
  const rest = await collect(
    await client.responses.retrieve(id, {
      stream: true,
      starting_after: second.at(-1)?.sequence_number ?? -1,
    }),
  )
  const all = [...first, ...second, ...rest]
  assert.deepEqual(
    all.map(({ sequence_number }) => sequence_number),
    all.map((_event, index) => index),
  )
  assert.equal(saidIn(all), 'one two three four')

  const whole = await collect(await client.responses.retrieve(id, { stream: true }))
  assert.deepEqual(whole, all)
  for (let number = 0; number <= all.length; number += 1) {
    const tail = await collect(await client.responses.retrieve(id, { stream: true, starting_after: number }))
    assert.deepEqual(tail, all.slice(number + 1), `after ${number}`)
  }
  const helper = client.responses.stream({ response_id: id, starting_after: 4 })
  assert.equal((await helper.finalResponse()).output_text, 'one two three four')
  assert.deepEqual((await client.responses.retrieve(id)).usage, { ...(await helper.finalResponse()).usage })
})

test('many readers at once, each from a place of its own', async (t) => {
  const words = Array.from({ length: 600 }, (_, index) => `${index} `)
  const { server, client } = await setUp(t, {}, answerChat(words))
  const { id } = await client.responses.create(streamed).then(async (stream) => ({
    id: idOf((await readUntil(stream, () => true))[0]),
  }))
  const readers = [-1, 0, 1].map((after) =>
    client.responses
      .retrieve(id, { stream: true, ...(after < 0 ? {} : { starting_after: after }) })
      .then(collect),
  )
  assert.equal(await server.work(), 'succeeded')
  const [whole, one, two] = await Promise.all(readers)
  assert.equal(saidIn(whole ?? []), words.join(''))
  assert.deepEqual(one, whole?.slice(1))
  assert.deepEqual(two, whole?.slice(2))
})

test('cancel: while it waits, while it runs, and after', async (t) => {
  const { behave, say } = speaker()
  const { fake, server, client } = await setUp(t, {}, behave)
  const waiting = await client.responses.create(asked)
  assert.equal((await client.responses.cancel(waiting.id)).status, 'cancelled')
  assert.equal((await client.responses.retrieve(waiting.id)).status, 'cancelled')

  const stream = await client.responses.create(streamed)
  const reading = collect(stream)
  await eventually('it waits', async () => (await server.tasks.store.tasks.waitingModels()).length > 0)
  const working = server.work()
  await fake.until(({ requests }) => requests.length === 1)
  say('one ')
  const [row] = await server.tasks.queue.list({ tenant: 'default', statuses: ['running'], limit: 1 })
  const id = String(row?.id).replace('task_', 'resp_')
  assert.equal((await client.responses.cancel(id)).status, 'cancelled')
  await fake.until(({ abandoned }) => abandoned === 1)
  assert.equal(await working, 'cancelled')
  const events = await reading
  const last = events.at(-1)
  assert.ok(last?.type === 'response.failed')
  assert.equal(last.response.status, 'cancelled')
  assert.equal((await client.responses.cancel(id)).status, 'cancelled')
  // The last event was told, not kept: it is told again under the same number, and nothing comes after it.
  const again = await collect(await client.responses.retrieve(id, { stream: true }))
  assert.deepEqual(again.at(-1), last)
  assert.deepEqual(
    await collect(
      await client.responses.retrieve(id, { stream: true, starting_after: last.sequence_number }),
    ),
    [],
  )

  fake.behave = answerChat()
  const live = await client.responses.create({ model: 'm', input: 'Hi' })
  await assert.rejects(client.responses.cancel(live.id), { status: 400 })
  await assert.rejects(client.responses.cancel('resp_none'), { status: 404 })
})

test('a stream that broke off behind its first words is not begun again', async (t) => {
  const { behave, say, cut } = speaker()
  const { fake, server, client } = await setUp(t, {}, behave)
  const reading = client.responses.create(streamed).then(collect)
  await eventually('it waits', async () => (await server.tasks.store.tasks.waitingModels()).length > 0)
  const working = server.work()
  await fake.until(({ requests }) => requests.length === 1)
  say('one ')
  await eventually(
    'the word is stored',
    async () => (await server.log.last(await newestId(server))).events > 2,
  )
  cut()
  assert.equal(await working, 'dead')
  const events = await reading
  assert.equal(events.at(-1)?.type, 'response.failed')
  const id = await newestId(server)
  const failed = await client.responses.retrieve(id)
  assert.deepEqual([failed.status, failed.error?.code], ['failed', 'server_error'])

  // Queued again by hand, it is made whole; its stream stays as it ended.
  fake.behave = answerChat()
  await server.tasks.queue.requeue('default', id.replace('resp_', 'task_'))
  assert.equal(await server.work(), 'succeeded')
  assert.equal((await client.responses.retrieve(id)).output_text, 'Hello.')
  assert.deepEqual(await collect(await client.responses.retrieve(id, { stream: true })), events)
})

async function newestId({ tasks }: ResponseServer): Promise<string> {
  const [row] = await tasks.queue.list({ tenant: 'default', limit: 1 })
  return String(row?.id).replace('task_', 'resp_')
}

test('an instance that fails before the first word leaves the stream whole', async (t) => {
  const { fake, server, client } = await setUp(t, {}, (_request, response) => sendJson(response, 500, {}))
  const reading = client.responses.create(streamed).then(collect)
  await eventually('it waits', async () => (await server.tasks.store.tasks.waitingModels()).length > 0)
  assert.equal(await server.work(), 'retry')
  assert.equal(await server.work(), 'retry')
  fake.behave = answerChat()
  assert.equal(await server.work(), 'succeeded')
  const events = await reading
  assert.equal(saidIn(events), 'Hello.')
  assert.equal(events.filter(({ type }) => type === 'response.in_progress').length, 1)
})

test('a worker that dies in mid-stream, and a server that is started again', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'autoglm-responses-'))
  t.after(() => rm(folder, { recursive: true }))
  const config = { storage: { url: `sqlite:${join(folder, 'tasks.db')}` } }
  const { behave, say } = speaker()
  await using fake = await FakeUpstream.start(behave)
  const seen: Event[] = []
  let id = ''
  {
    await using server = await ResponseServer.start({ upstreams: [fake.url], config })
    const client = connect(server)
    const reading = client.responses
      .create(streamed)
      .then((stream) => readUntil(stream, (event) => event.type === 'response.output_text.delta'))
    await eventually('it waits', async () => (await server.tasks.store.tasks.waitingModels()).length > 0)
    const claimed = await server.tasks.work()
    // The death: its write of the events arrives, its settlement never does.
    void server.attempt(claimed, { settles: false })
    await fake.until(({ requests }) => requests.length === 1)
    say('one ')
    seen.push(...(await reading))
    id = idOf(seen[0])
  }
  await using server = await ResponseServer.start({ upstreams: [fake.url], config })
  const client = connect(server)
  assert.equal((await client.responses.retrieve(id)).status, 'in_progress')
  const after = seen.at(-1)?.sequence_number ?? -1
  const reading = client.responses.retrieve(id, { stream: true, starting_after: after }).then(collect)
  await server.tasks.store.tasks.rescue(server.tasks.clock.wallMs() + 3_600_000, 10)
  await server.tasks.store.tasks.promote(server.tasks.clock.wallMs() + 3_600_000, 10)
  assert.equal(await server.work(), 'dead')
  const rest = await reading
  assert.deepEqual(
    [...seen, ...rest].map(({ sequence_number }) => sequence_number),
    [...seen, ...rest].map((_event, index) => index),
  )
  assert.equal(rest.at(-1)?.type, 'response.failed')
  assert.equal(fake.requests.length, 1)
})

test('a worker that dies behind the last word: the next attempt takes its answer, without a call', async (t) => {
  const { fake, server, client } = await setUp(t)
  const reading = client.responses.create(streamed).then(collect)
  await eventually('it waits', async () => (await server.tasks.store.tasks.waitingModels()).length > 0)
  await server.attempt(await server.tasks.work(), { settles: false })
  const events = await reading
  assert.equal(events.at(-1)?.type, 'response.completed')
  const id = idOf(events[0])
  // Told to be complete, it is shown so, whatever has become of the task.
  assert.equal((await client.responses.retrieve(id)).status, 'completed')
  await server.tasks.store.tasks.rescue(server.tasks.clock.wallMs() + 3_600_000, 10)
  await server.tasks.store.tasks.promote(server.tasks.clock.wallMs() + 3_600_000, 10)
  assert.equal(await server.work(), 'succeeded')
  assert.equal(fake.requests.length, 1)
  assert.deepEqual(await collect(await client.responses.retrieve(id, { stream: true })), events)
})

test('a server that stops lets the readers of background streams go', async (t) => {
  const { server, client } = await setUp(t)
  const stream = await client.responses.create(streamed)
  const events = stream[Symbol.asyncIterator]()
  const next = async () => ((await events.next()) as IteratorResult<Event, undefined>).value?.type
  assert.deepEqual([await next(), await next()], ['response.created', 'response.queued'])
  await server.tasks.gateway.stop()
  assert.equal(await next(), undefined)
})

test('the whole server: made, streamed and cancelled by its own workers', async () => {
  await using fake = await FakeUpstream.start()
  await using server = await startGateway({ upstreams: [upstream('a', fake.url)] })
  const client = connect(server)
  const queued = await client.responses.create(asked)
  assert.equal(queued.status, 'queued')
  await eventually(
    'it is made',
    async () => (await client.responses.retrieve(queued.id)).status === 'completed',
  )
  const events = await collect(await client.responses.create(streamed))
  assert.equal(saidIn(events), 'Hello.')
  assert.equal(events.at(-1)?.type, 'response.completed')

  const { behave, say } = speaker()
  fake.behave = behave
  let last: Event | undefined
  let id = ''
  for await (const event of await client.responses.create(streamed)) {
    last = event
    if (event.type === 'response.created') id = event.response.id
    if (event.type === 'response.in_progress') {
      await fake.until(({ requests }) => requests.length === 3)
      say('one ')
    }
    if (event.type === 'response.output_text.delta') await client.responses.cancel(id)
  }
  assert.equal(last?.type, 'response.failed')
  assert.equal((await client.responses.retrieve(id)).status, 'cancelled')
  await fake.until(({ abandoned }) => abandoned === 1)
  const { paths } = (await (await fetch(`${server.url}/openapi.json`)).json()) as { paths: object }
  assert.ok('/v1/responses/{id}/cancel' in paths)
})
