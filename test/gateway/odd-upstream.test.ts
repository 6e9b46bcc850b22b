import { strict as assert } from 'node:assert'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import { metricReaches } from '../helpers/metric-reaches.ts'
import { chat, post, readMetric, startGateway, upstream } from '../helpers/gateway.ts'
import { eventually } from '../helpers/server.ts'
import {
  answerChat,
  chatEvent,
  doneEvent,
  FakeUpstream,
  sendJson,
  wholeChat,
  type Behaviour,
} from '../helpers/upstream.ts'

const events =
  (text: string): Behaviour =>
  (_request, response) =>
    response.writeHead(200, { 'content-type': 'text/event-stream' }).end(text)

const raw =
  (text: string): Behaviour =>
  (_request, _response, socket: Socket) =>
    socket.end(text)

const half = '{"id":"x","object":"chat.completion","choices":[{"a":{}}'

/** What looks like an answer and is none: another instance must give it. */
const noAnswers: Record<string, Behaviour> = {
  'a comment, and then the line breaks': (_request, response, socket) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(': ping\n\n')
    setImmediate(() => socket.destroy())
  },
  'an error behind a comment': events(': ping\n\ndata: {"error":{"message":"no memory"}}\n\n'),
  'an error written with spaces': events('data: { "error" : {"message":"no memory"} }\n\n'),
  'an event named error': events('event: error\ndata: {"message":"no memory"}\n\n'),
  'an error object without a frame': (_request, response) =>
    sendJson(response, 200, { object: 'error', message: 'no memory', code: 500 }),
  'a body that ends in a brace too early': raw(
    `HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n${half}`,
  ),
  'two JSON texts': raw('HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{"a":1}{"b":2}'),
  'status 204': (_request, response) => response.writeHead(204).end(),
  'status 206': (_request, response) => sendJson(response, 206, wholeChat()),
}

for (const [name, behave] of Object.entries(noAnswers)) {
  test(`${name}: another instance answers`, async () => {
    await using bad = await FakeUpstream.start(behave)
    await using good = await FakeUpstream.start()
    await using gateway = await startGateway({
      upstreams: [upstream('bad', bad.url, { weight: 1000 }), upstream('good', good.url, { weight: 0.001 })],
      routing: { policy: 'weighted' },
    })
    for (const stream of [true, false]) {
      const response = await post(gateway.url, '/v1/chat/completions', chat({ stream }))
      assert.equal(response.headers.get('x-autoglm-instance'), 'good')
      await response.arrayBuffer()
    }
    assert.equal(bad.requests.length, 2)
  })
}

test('time limits hold against 1xx answers, dripping errors and comments without end', async () => {
  let socketOf: Socket | null = null
  const drip =
    (head: string, drop: string): Behaviour =>
    (_request, _response, socket) => {
      socketOf = socket
      socket.write(head)
      const timer = setInterval(() => socket.write(drop), 20)
      socket.once('close', () => clearInterval(timer))
    }
  const stream = 'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n'
  for (const behave of [
    drip('', 'HTTP/1.1 103 Early Hints\r\n\r\n'),
    drip('HTTP/1.1 500 Oops\r\ncontent-length: 100000\r\n\r\n', 'x'),
    drip(stream, ': ping\n\n'),
  ]) {
    await using bad = await FakeUpstream.start(behave)
    await using gateway = await startGateway({
      upstreams: [upstream('bad', bad.url)],
      timeouts: { firstByteMs: 200, idleMs: 200 },
    })
    const response = await post(gateway.url, '/v1/chat/completions', chat({ stream: true }))
    assert.equal(response.status, 504)
    const socket = socketOf as Socket | null
    if (socket && !socket.destroyed) await once(socket, 'close')
  }
})

test('behind [DONE] nothing counts: the client is done, the instance unharmed', async () => {
  await using fake = await FakeUpstream.start((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(chatEvent('[DONE] is only a word here') + doneEvent)
  })
  await using gateway = await startGateway({
    upstreams: [upstream('a', fake.url)],
    timeouts: { idleMs: 200 },
  })
  const text = await (await post(gateway.url, '/v1/chat/completions', chat({ stream: true }))).text()
  assert.equal(text, chatEvent('[DONE] is only a word here') + doneEvent)
  await metricReaches(gateway.url, 'autoglm_instance_in_flight{instance="a"}', 0)
})

test('an event in tiny pieces costs time in proportion to its length', async () => {
  const event = chatEvent('x'.repeat(200_000))
  await using fake = await FakeUpstream.start(async (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    for (let at = 0; at < event.length; at += 20) {
      response.write(event.slice(at, at + 20))
      if (at % 20_000 === 0) await new Promise(setImmediate)
    }
    response.end(doneEvent)
  })
  await using gateway = await startGateway({ upstreams: [upstream('a', fake.url)] })
  const text = await (await post(gateway.url, '/v1/chat/completions', chat({ stream: true }))).text()
  assert.equal(text, event + doneEvent)
})

test('names of any kind are served: other scripts, and those that objects have by birth', async () => {
  await using fake = await FakeUpstream.start(answerChat(), ['模型', 'constructor', '__proto__', 'toString'])
  await using gateway = await startGateway({ upstreams: [{ name: 'a', url: fake.url }] })
  for (const model of fake.models) {
    for (const stream of [true, false]) {
      const response = await post(gateway.url, '/v1/chat/completions', chat({ model, stream }))
      assert.equal(response.status, 200, model)
      assert.equal(response.headers.get('x-autoglm-model'), encodeURIComponent(model))
      await response.arrayBuffer()
    }
  }
})

test('an instance that miscounts does not move the counters', async () => {
  const usage = { prompt_tokens: -5, completion_tokens: 1e15, total_tokens: 0 }
  await using fake = await FakeUpstream.start((_request, response) =>
    sendJson(response, 200, { ...wholeChat(), usage }),
  )
  await using gateway = await startGateway({ upstreams: [upstream('a', fake.url)] })
  await post(gateway.url, '/v1/chat/completions', chat())
  await metricReaches(gateway.url, 'autoglm_requests_in_flight', 1)
  for (const kind of ['prompt', 'completion']) {
    assert.equal(await readMetric(gateway.url, `autoglm_tokens_total{model="m",kind="${kind}"}`), 0)
  }
})

test('a client that stops reading is cut off, also when the instance has long finished', async () => {
  await using fake = await FakeUpstream.start(answerChat(['x'.repeat(8 * 1024 * 1024)]))
  await using gateway = await startGateway({
    upstreams: [upstream('a', fake.url)],
    timeouts: { idleMs: 200 },
  })
  const socket = connect(Number(new URL(gateway.url).port), '127.0.0.1')
  socket.pause()
  const body = JSON.stringify(chat())
  socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  )
  await fake.until(({ requests }) => requests.length === 1)
  const inFlight = () => readMetric(gateway.url, 'autoglm_requests_in_flight')
  await eventually('only the scrape itself is in flight', async () => (await inFlight()) === 1)
  socket.destroy()
})

test('a request in a content-encoding is refused, a bad path gets an error in shape', async () => {
  await using fake = await FakeUpstream.start()
  await using gateway = await startGateway({ upstreams: [upstream('a', fake.url)] })
  const headers = { 'content-encoding': 'gzip' }
  assert.equal((await post(gateway.url, '/v1/chat/completions', chat(), { headers })).status, 415)
  const bad = await fetch(`${gateway.url}/v1/models/%zz`)
  assert.equal(bad.status, 400)
  assert.ok(bad.headers.get('x-request-id'))
  assert.equal(((await bad.json()) as { error: { code: string } }).error.code, 'invalid_request')
  const wrong = await fetch(`${gateway.url}/v1/models/m`, { method: 'DELETE' })
  assert.equal(wrong.status, 405)
  assert.match(wrong.headers.get('allow') ?? '', /GET/)
})
