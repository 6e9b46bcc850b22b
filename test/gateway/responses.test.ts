import { strict as assert } from 'node:assert'
import { after, before, test } from 'node:test'
import OpenAI from 'openai'
import { readEvents } from '../../src/core/sse.ts'
import { metricReaches } from '../helpers/metric-reaches.ts'
import { post, readMetric } from '../helpers/gateway.ts'
import { ResponseServer } from '../helpers/response-server.ts'
import { StoreUnavailable } from '../../src/storage/store.ts'
import {
  answerChat,
  chatEvent,
  doneEvent,
  FakeUpstream,
  sendJson,
  wholeChat,
  type Behaviour,
} from '../helpers/upstream.ts'

const connect = ({ url }: { url: string }, tenant = 'default') =>
  new OpenAI({
    baseURL: `${url}/v1`,
    apiKey: 'none',
    maxRetries: 0,
    defaultHeaders: { 'x-autoglm-tenant': tenant },
  })

async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = []
  for await (const item of source) items.push(item)
  return items
}

let fake: FakeUpstream
let server: ResponseServer
let client: OpenAI

before(async () => {
  fake = await FakeUpstream.start()
  server = await ResponseServer.start({ upstreams: [fake.url] })
  client = connect(server)
})

after(async () => {
  await server[Symbol.asyncDispose]()
  await fake.stop()
})

/** What the instance does from here on; nothing is remembered of what it did before. */
function behave(as: Behaviour = answerChat()): void {
  fake.behave = as
  fake.requests.length = 0
  fake.abandoned = 0
}

test('a response is an answer, is kept, and can be gone on from', async () => {
  behave()
  const first = await client.responses.create({
    model: 'm',
    instructions: 'Be kind.',
    input: 'Hi',
    metadata: { a: 'b' },
  })
  assert.equal(first.output_text, 'Hello.')
  assert.match(first.id, /^resp_/)
  assert.deepEqual([first.status, first.usage?.input_tokens, first.usage?.output_tokens], ['completed', 5, 3])
  const again = await client.responses.retrieve(first.id)
  assert.deepEqual(again, first)

  const second = await client.responses.create({
    model: 'm',
    input: 'And you?',
    previous_response_id: first.id,
  })
  assert.deepEqual(fake.requests.at(-1)?.json['messages'], [
    { role: 'user', content: 'Hi' },
    { role: 'assistant', content: 'Hello.' },
    { role: 'user', content: 'And you?' },
  ])
  const third = await client.responses.create({ model: 'm', input: 'Bye', previous_response_id: second.id })
  // The conversation is whole even when what lies before the last response is deleted.
  await client.responses.delete(first.id)
  await client.responses.create({ model: 'm', input: 'Bye', previous_response_id: second.id })
  assert.equal((fake.requests.at(-1)?.json['messages'] as unknown[] | undefined)?.length, 5)

  const texts: string[] = []
  const ids = new Set<string>()
  for await (const item of client.responses.inputItems.list(third.id, { limit: 2, order: 'asc' })) {
    const { id, content } = item as { id: string; content: { text: string }[] }
    ids.add(id)
    texts.push(content[0]?.text ?? '')
  }
  assert.deepEqual(texts, ['Hi', 'Hello.', 'And you?', 'Hello.', 'Bye'])
  assert.equal(ids.size, 5)
  const newest = await client.responses.inputItems.list(third.id, { limit: 1 })
  assert.equal((newest.data[0] as { content: { text: string }[] }).content[0]?.text, 'Bye')

  await assert.rejects(client.responses.retrieve(first.id), { status: 404, code: 'response_not_found' })
  await assert.rejects(client.responses.create({ model: 'm', input: 'x', previous_response_id: first.id }), {
    status: 404,
    param: 'previous_response_id',
  })
  // Another tenant's responses are not there.
  await assert.rejects(connect(server, 'other').responses.retrieve(second.id), { status: 404 })
  await assert.rejects(
    connect(server, 'other').responses.create({ model: 'm', input: 'x', previous_response_id: second.id }),
    { status: 404 },
  )
})

test('with store: false nothing is kept', async () => {
  behave()
  const response = await client.responses.create({ model: 'm', input: 'Hi', store: false })
  assert.equal((response as { store?: boolean }).store, false)
  await assert.rejects(client.responses.retrieve(response.id), { status: 404 })
})

test('a stream is read by the official client, and its end is stored when it is told', async () => {
  behave()
  const series = 'autoglm_tokens_total{model="m",kind="completion"}'
  const tokensBefore = await readMetric(server.url, series)
  const stream = client.responses.stream({ model: 'm', input: 'Hi' })
  let text = ''
  let number = 0
  for await (const event of stream) {
    assert.equal(event.sequence_number, number++)
    if (event.type === 'response.output_text.delta') text += event.delta
    if (event.type === 'response.completed') {
      assert.equal((await client.responses.retrieve(event.response.id)).output_text, 'Hello.')
    }
  }
  assert.equal(text, 'Hello.')
  const final = await stream.finalResponse()
  assert.deepEqual([final.output_text, final.usage?.total_tokens], ['Hello.', 8])
  await metricReaches(server.url, series, tokensBefore + 3)
})

test('tools: a call, its output, and the answer', async () => {
  behave(({ json }, response) => {
    const messages = json['messages'] as { role: string }[]
    if (messages.at(-1)?.role === 'tool') return sendJson(response, 200, wholeChat('Sunny.'))
    const call = {
      id: 'call_w',
      type: 'function',
      function: { name: 'weather', arguments: '{"city":"Rome"}' },
    }
    const message = { role: 'assistant', content: null, tool_calls: [call] }
    sendJson(response, 200, { ...wholeChat(), choices: [{ index: 0, message, finish_reason: 'tool_calls' }] })
  })
  const tools: OpenAI.Responses.Tool[] = [
    { type: 'function', name: 'weather', parameters: { type: 'object' }, strict: true },
  ]
  const first = await client.responses.create({ model: 'm', input: 'Weather in Rome?', tools })
  const [call] = first.output
  assert.ok(call?.type === 'function_call')
  assert.deepEqual([call.name, call.arguments, call.call_id], ['weather', '{"city":"Rome"}', 'call_w'])
  const second = await client.responses.create({
    model: 'm',
    tools,
    previous_response_id: first.id,
    input: [{ type: 'function_call_output', call_id: call.call_id, output: 'sun' }],
  })
  assert.equal(second.output_text, 'Sunny.')
  // The same by sending everything back, as clients do that store nothing.
  const third = await client.responses.create({
    model: 'm',
    tools,
    store: false,
    input: [
      { role: 'user', content: 'Weather in Rome?' },
      ...(first.output as OpenAI.Responses.ResponseInputItem[]),
      { type: 'function_call_output', call_id: call.call_id, output: 'sun' },
    ],
  })
  assert.equal(third.output_text, 'Sunny.')
  assert.deepEqual(fake.requests[1]?.json['messages'], fake.requests[2]?.json['messages'])
})

test('a JSON schema goes to the instance, and what comes back is parsed by the client', async () => {
  behave((_request, response) => sendJson(response, 200, wholeChat('{"a":1}')))
  const schema = { type: 'object', properties: { a: { type: 'number' } }, required: ['a'] }
  const parsed = await client.responses.parse({
    model: 'm',
    input: 'Hi',
    text: { format: { type: 'json_schema', name: 's', schema, strict: true } },
  })
  assert.deepEqual(parsed.output_parsed, { a: 1 })
  assert.deepEqual(fake.requests[0]?.json['response_format'], {
    type: 'json_schema',
    json_schema: { name: 's', schema, strict: true },
  })
})

test('errors: what the caller did, what the instance says, what the fleet lacks', async () => {
  behave()
  await assert.rejects(client.responses.create({ model: 'x', input: 'Hi' }), {
    status: 404,
    code: 'model_not_found',
  })
  await assert.rejects(
    client.responses.create({ model: 'm', input: 'Hi', tools: [{ type: 'web_search' }] }),
    { status: 400, code: 'unsupported_parameter', param: 'tools[0].type' },
  )
  const reply = await post(server.url, '/v1/responses', '{"model":')
  assert.deepEqual(
    [reply.status, ((await reply.json()) as { error: { code: string } }).error.code],
    [400, 'invalid_json'],
  )
  fake.behave = (_request, response) =>
    sendJson(response, 400, {
      error: { message: 'too long', type: 'x', param: 'messages', code: 'context_length_exceeded' },
    })
  for (const stream of [false, true]) {
    await assert.rejects(client.responses.create({ model: 'm', input: 'Hi', stream }), {
      status: 400,
      code: 'context_length_exceeded',
    })
  }
  fake.behave = (_request, response) => sendJson(response, 500, { error: { message: 'no' } })
  for (const stream of [false, true]) {
    await assert.rejects(client.responses.create({ model: 'm', input: 'Hi', stream }), { status: 502 })
  }
  fake.behave = (_request, response) => sendJson(response, 200, { choices: 'none' })
  await assert.rejects(client.responses.create({ model: 'm', input: 'Hi' }), { code: 'upstream_invalid' })
})

for (const [name, breakOff] of [
  ['a broken connection', (response: { destroy(): unknown }) => response.destroy()],
  [
    'an error event',
    (response: { end(text: string): unknown }) =>
      response.end('data: {"error":{"message":"no memory"}}\n\ndata: [DONE]\n\n'),
  ],
  [
    'an event that is not JSON',
    (response: { end(text: string): unknown }) => response.end('data: {"choices":\n\ndata: [DONE]\n\n'),
  ],
] as const) {
  // prettier-ignore
  test(`a stream that breaks off ends in response.failed: ${name}`, async () => {
    behave((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write(chatEvent('Hel'))
      setImmediate(() => breakOff(response as never))
    })
    const events = await collect(await client.responses.create({ model: 'm', input: 'Hi', stream: true }))
    const last = events.at(-1)
    assert.ok(last?.type === 'response.failed')
    assert.equal(last.response.error?.code, 'server_error')
    assert.equal(last.response.output[0]?.type, 'message')
    assert.equal((await client.responses.retrieve(last.response.id)).status, 'failed')
    await assert.rejects(
      client.responses.create({ model: 'm', input: 'x', previous_response_id: last.response.id }),
      { status: 400, param: 'previous_response_id' },
    )
    await metricReaches(server.url, 'autoglm_requests_in_flight', 1)
  })
}

test('a client that leaves frees the instance at once', async () => {
  behave((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(chatEvent('Hel'))
  })
  const stream = await client.responses.create({ model: 'm', input: 'Hi', stream: true })
  for await (const event of stream) if (event.type === 'response.output_text.delta') break
  await fake.until(({ abandoned }) => abandoned === 1)

  fake.behave = () => {}
  const leave = new AbortController()
  const waiting = client.responses.create({ model: 'm', input: 'Hi' }, { signal: leave.signal })
  await fake.until(({ requests }) => requests.length === 2)
  leave.abort()
  await assert.rejects(waiting)
  await fake.until(({ abandoned }) => abandoned === 2)
  const line = 'http_requests_total{method="POST",endpoint="/v1/responses",status="499"}'
  while ((await readMetric(server.url, line)) < 2) continue
})

test('an instance that does not stream is streamed all the same', async () => {
  behave((_request, response) => sendJson(response, 200, wholeChat('Hello.')))
  const stream = client.responses.stream({ model: 'm', input: 'Hi' })
  assert.equal((await stream.finalResponse()).output_text, 'Hello.')
})

test('a long stream arrives whole', async () => {
  const words = Array.from({ length: 3_000 }, (_, index) => `${index} ${'x'.repeat(100)}`)
  behave((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    for (const word of words) response.write(chatEvent(word))
    response.end(doneEvent)
  })
  const final = await client.responses.stream({ model: 'm', input: 'Hi' }).finalResponse()
  assert.equal(final.output_text, words.join(''))
})

test('large events reach their reader whole and in order', async () => {
  const words = Array.from({ length: 12 }, (_, index) => String.fromCharCode(97 + index).repeat(700_000))
  behave((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    // The end comes with the last word: it must not overtake it.
    response.end(words.map((word) => chatEvent(word)).join('') + doneEvent)
  })
  const body = { model: 'm', input: 'Hi', stream: true, store: false }
  const reply = await post(server.url, '/v1/responses', body)
  await fake.until(({ requests }) => requests.length === 1)
  let said = ''
  for await (const data of readEvents(reply.body as unknown as AsyncIterable<Uint8Array>, {
    eventBytesMax: 2 ** 28,
  })) {
    const event = JSON.parse(data) as { type: string; delta?: string }
    if (event.type === 'response.output_text.delta') said += event.delta
  }
  assert.equal(said.length, words.join('').length)
  assert.ok(said === words.join(''))
})

test('what can not be stored is not said to be', async (t) => {
  behave()
  const { documents } = server.tasks.store
  t.mock.method(documents, 'insert', () => Promise.reject(new StoreUnavailable('disk full')))
  await assert.rejects(client.responses.create({ model: 'm', input: 'Hi' }), {
    status: 503,
    code: 'storage_unavailable',
  })
  const events = await collect(await client.responses.create({ model: 'm', input: 'Hi', stream: true }))
  assert.equal(events.at(-1)?.type, 'response.failed')
  assert.ok(!events.some(({ type }) => type === 'response.completed'))
  const unstored = await client.responses.create({ model: 'm', input: 'Hi', store: false })
  assert.equal(unstored.output_text, 'Hello.')
})
