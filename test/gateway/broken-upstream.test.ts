import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import OpenAI from 'openai'
import { metricReaches } from '../helpers/metric-reaches.ts'
import { chat, post, readMetric, startGateway, upstream } from '../helpers/gateway.ts'
import {
  answerChat,
  chatEvent,
  doneEvent,
  FakeUpstream,
  sendJson,
  wholeChat,
  type Behaviour,
} from '../helpers/upstream.ts'

/** Everything an instance may do wrong before a byte of its answer has reached the client. */
const faults: Record<string, { behave: Behaviour; status: number; code: string; harmful: boolean }> = {
  'cuts the connection': { behave: (_r, _s, socket) => socket.destroy(), status: 502, code: 'upstream_failed', harmful: true },
  'answers 500': { behave: (_r, response) => sendJson(response, 500, { error: { message: 'boom' } }), status: 502, code: 'upstream_failed', harmful: true },
  'answers 503': { behave: (_r, response) => sendJson(response, 503, {}, { 'retry-after': '7' }), status: 503, code: 'engine_overloaded', harmful: false },
  'answers 429': { behave: (_r, response) => sendJson(response, 429, {}, { 'retry-after': '7' }), status: 429, code: 'rate_limited', harmful: false },
  'refuses the key': { behave: (_r, response) => sendJson(response, 401, {}), status: 502, code: 'upstream_unauthorized', harmful: true },
  'redirects': { behave: (_r, response) => response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(), status: 502, code: 'upstream_invalid', harmful: true },
  'answers HTML': { behave: (_r, response) => response.setHeader('content-type', 'text/html').end('<html>'), status: 502, code: 'upstream_invalid', harmful: true },
  'answers nothing': { behave: (_r, response) => response.end(), status: 502, code: 'upstream_invalid', harmful: true },
  'answers half a JSON text': { behave: (_r, response) => response.setHeader('content-type', 'application/json').end('{"choices":[{"mess'), status: 502, code: 'upstream_invalid', harmful: true },
  'breaks off in the middle': { behave: (_r, response, socket) => { response.writeHead(200, { 'content-type': 'application/json', 'content-length': '500' }); response.write('{"choices":['); response.once('drain', () => {}); setImmediate(() => socket.destroy()) }, status: 502, code: 'upstream_failed', harmful: true },
  'answers more than it announced': { behave: (_r, _s, socket) => { socket.end('HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}{}{}{}HTTP/1.1 garbage') }, status: 200, code: '', harmful: false },
  'answers what is not HTTP': { behave: (_r, _s, socket) => { socket.end('SSH-2.0-OpenSSH\r\n') }, status: 502, code: 'upstream_failed', harmful: true },
  'says 200 with an error inside': { behave: (_r, response) => sendJson(response, 200, { error: { message: 'out of memory', code: 500 } }), status: 502, code: 'upstream_failed', harmful: true },
  'streams an error first': { behave: (_r, response) => { response.writeHead(200, { 'content-type': 'text/event-stream' }); response.end('data: {"error":{"message":"out of memory"}}\n\n') }, status: 502, code: 'upstream_failed', harmful: true },
  'streams nothing': { behave: (_r, response) => { response.writeHead(200, { 'content-type': 'text/event-stream' }); response.end() }, status: 502, code: 'upstream_invalid', harmful: true },
  'streams half an event': { behave: (_r, response, socket) => { response.writeHead(200, { 'content-type': 'text/event-stream' }); response.write('data: {"choi'); setImmediate(() => socket.destroy()) }, status: 502, code: 'upstream_failed', harmful: true },
} // prettier-ignore

for (const [name, { behave, status, code, harmful }] of Object.entries(faults)) {
  test(`an instance that ${name} is replaced by another, and explained when there is none`, async () => {
    await using bad = await FakeUpstream.start(behave)
    await using good = await FakeUpstream.start()
    await using gateway = await startGateway({
      upstreams: [upstream('bad', bad.url, { weight: 1000 }), upstream('good', good.url, { weight: 0.001 })],
      routing: { policy: 'weighted' },
      health: { ejectAfterFailures: 1, ejectShareMax: 1 },
    })
    const response = await post(gateway.url, '/v1/chat/completions', chat())
    assert.equal(response.status, 200)
    if (status !== 200) assert.equal(response.headers.get('x-autoglm-instance'), 'good')
    assert.equal(bad.requests.length, 1)
    assert.equal(await readMetric(gateway.url, 'autoglm_instance_ejected{instance="bad"}'), harmful ? 1 : 0)

    await using alone = await startGateway({ upstreams: [upstream('bad', bad.url)] })
    const refused = await post(alone.url, '/v1/chat/completions', chat())
    assert.equal(refused.status, status)
    if (status === 200) return
    const { error } = (await refused.json()) as { error: { code: string; message: string; type: string } }
    assert.equal(error.code, code)
    assert.ok(error.message.length > 10)
    if (name.includes('answers 503') || name.includes('answers 429'))
      assert.equal(refused.headers.get('retry-after'), '7')
    for (const url of [gateway.url, alone.url]) {
      await metricReaches(url, 'autoglm_instance_in_flight{instance="bad"}', 0)
    }
  })
}

test('an instance that breaks off in mid-stream: the client gets what came, then an error event, and no doubled text', async () => {
  let calls = 0
  const broken: Behaviour = async (_request, response, socket) => {
    calls += 1
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(chatEvent('one ') + chatEvent('two ') + 'data: {"choices":[{"del')
    await new Promise(setImmediate)
    socket.destroy()
  }
  await using bad = await FakeUpstream.start(broken)
  await using gateway = await startGateway({
    upstreams: [upstream('bad', bad.url), upstream('bad2', bad.url)],
  })
  const response = await post(gateway.url, '/v1/chat/completions', chat({ stream: true }))
  const text = await response.text()
  assert.ok(text.startsWith(chatEvent('one ') + chatEvent('two ')))
  const last = JSON.parse(text.slice(chatEvent('one ').length * 2 + 'data: '.length)) as {
    error: { code: string }
  }
  assert.equal(last.error.code, 'upstream_failed')
  assert.equal(calls, 1)

  const client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: 'x', maxRetries: 0 })
  const stream = await client.chat.completions.create({
    model: 'm',
    messages: [{ role: 'user', content: 'x' }],
    stream: true,
  })
  let seen = ''
  await assert.rejects(async () => {
    for await (const chunk of stream) seen += chunk.choices[0]?.delta.content ?? ''
  }, OpenAI.APIError)
  assert.equal(seen, 'one two ')
})

test('a stream that ends politely but without its end mark is told as broken', async () => {
  await using bad = await FakeUpstream.start((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.end(chatEvent('one'))
  })
  await using gateway = await startGateway({ upstreams: [upstream('bad', bad.url)] })
  const text = await (await post(gateway.url, '/v1/chat/completions', chat({ stream: true }))).text()
  assert.ok(text.startsWith(chatEvent('one')))
  assert.match(text, /"code":"upstream_invalid"/)
})

test('an instance that never answers, and one that falls silent in the middle, are cut off in time', async () => {
  const timeouts = { firstByteMs: 200, idleMs: 200 }
  await using silent = await FakeUpstream.start(() => {})
  await using gateway = await startGateway({ upstreams: [upstream('a', silent.url)], timeouts })
  const late = await post(gateway.url, '/v1/chat/completions', chat())
  assert.equal(late.status, 504)
  silent.behave = (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(chatEvent('one'))
  }
  const text = await (await post(gateway.url, '/v1/chat/completions', chat({ stream: true }))).text()
  assert.match(text, /"code":"upstream_timeout"/)
  await silent.until(({ active }) => active === 0)
})

test("a client's own mistake is passed on as the instance words it, harms no instance and is not tried again", async () => {
  const bodies: Record<string, unknown> = {
    '{"error":{"message":"max_tokens is too large","type":"invalid_request_error","param":"max_tokens","code":"x"}}':
      null,
    '{"detail":"no such field"}': null,
    'plain words': null,
  }
  for (const body of Object.keys(bodies)) {
    await using fake = await FakeUpstream.start((_request, response) => response.writeHead(422).end(body))
    await using gateway = await startGateway({
      upstreams: [upstream('a', fake.url), upstream('b', fake.url)],
      health: { ejectAfterFailures: 1, ejectShareMax: 1 },
    })
    const response = await post(gateway.url, '/v1/chat/completions', chat())
    assert.equal(response.status, 422)
    const { error } = (await response.json()) as { error: { message: string; type: string } }
    assert.equal(error.type, 'invalid_request_error')
    assert.ok(body.includes(error.message) || error.message.includes('no such field'), error.message)
    assert.equal(fake.requests.length, 1)
    assert.equal(await readMetric(gateway.url, 'autoglm_ejections_total'), 0)
  }
})

test('an instance that says how long it is busy is left alone so long', async () => {
  await using busy = await FakeUpstream.start((_request, response) =>
    sendJson(response, 503, {}, { 'retry-after': '50' }),
  )
  await using gateway = await startGateway({ upstreams: [upstream('busy', busy.url)] })
  assert.equal((await post(gateway.url, '/v1/chat/completions', chat())).status, 503)
  const second = await post(gateway.url, '/v1/chat/completions', chat())
  assert.equal(second.status, 503)
  const wait = Number(second.headers.get('retry-after'))
  assert.ok(wait >= 45 && wait <= 50, `Retry-After: ${wait}`)
  assert.equal(busy.requests.length, 1)
})

test('a model whose instances are gone is served by its fallback', async () => {
  await using dead = await FakeUpstream.start((_r, _s, socket) => socket.destroy())
  await using spare = await FakeUpstream.start(answerChat(['spare']))
  await using gateway = await startGateway({
    upstreams: [
      upstream('dead', dead.url, { models: { big: 'big' } }),
      upstream('spare', spare.url, { models: { small: 'small' } }),
    ],
    routing: { fallbacks: { big: ['small'] } },
  })
  const response = await post(gateway.url, '/v1/chat/completions', chat({ model: 'big' }))
  assert.equal(response.headers.get('x-autoglm-model'), 'small')
  assert.equal(spare.requests[0]?.json['model'], 'small')
})

test('an answer larger than what is held back passes whole', async () => {
  const content = 'x'.repeat(5 * 1024 * 1024)
  await using fake = await FakeUpstream.start(answerChat([content]))
  await using gateway = await startGateway({ upstreams: [upstream('a', fake.url)] })
  const whole = (await (await post(gateway.url, '/v1/chat/completions', chat())).json()) as ReturnType<
    typeof wholeChat
  >
  assert.deepEqual(whole, wholeChat(content))
  assert.ok(doneEvent.length > 0)
})
