import { strict as assert } from 'node:assert'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { metricReaches } from '../helpers/metric-reaches.ts'
import { chat, post, startGateway, upstream } from '../helpers/gateway.ts'
import { readStatuses } from '../helpers/raw-http.ts'
import { answerChat, FakeUpstream } from '../helpers/upstream.ts'

type ErrorReply = { error: { message: string; type: string; param: string | null; code: string } }

const json = { 'content-type': 'application/json' }

const refusals: {
  name: string
  path?: string
  init: RequestInit
  status: number
  code: string
  param?: string
  message?: RegExp
}[] = [
  { name: 'an unknown route', path: '/v2/x', init: {}, status: 404, code: 'not_found' },
  { name: 'GET where POST is meant', init: {}, status: 405, code: 'method_not_allowed', message: /allowed: POST/ },
  { name: 'a form', init: { method: 'POST', body: 'a=b', headers: { 'content-type': 'application/x-www-form-urlencoded' } }, status: 415, code: 'unsupported_media_type', message: /application\/json/ },
  { name: 'no body', init: { method: 'POST', headers: json }, status: 400, code: 'invalid_json' },
  { name: 'broken JSON', init: { method: 'POST', body: '{"model":', headers: json }, status: 400, code: 'invalid_json' },
  { name: 'an array', init: { method: 'POST', body: '[]', headers: json }, status: 400, code: 'invalid_json', message: /object/ },
  { name: 'deep nesting', init: { method: 'POST', body: `{"a":${'['.repeat(5000)}${']'.repeat(5000)}}`, headers: json }, status: 400, code: 'invalid_json', message: /64 levels/ },
  { name: 'a large body', init: { method: 'POST', body: JSON.stringify(chat({ pad: 'x'.repeat(70_000) })), headers: json }, status: 413, code: 'body_too_large' },
  { name: 'no model', init: { method: 'POST', body: '{"messages":[{"role":"user","content":"x"}]}', headers: json }, status: 400, code: 'invalid_request', param: 'model' },
  { name: 'an unknown model', init: { method: 'POST', body: JSON.stringify(chat({ model: '__proto__' })), headers: json }, status: 404, code: 'model_not_found', param: 'model' },
  { name: 'messages that are no list', init: { method: 'POST', body: '{"model":"m","messages":"x"}', headers: json }, status: 400, code: 'invalid_request', param: 'messages', message: /array; it is a string/ },
  { name: 'a message without a role', init: { method: 'POST', body: '{"model":"m","messages":[{}]}', headers: json }, status: 400, code: 'invalid_request', param: 'messages[0].role' },
  { name: 'stream as a word', init: { method: 'POST', body: JSON.stringify(chat({ stream: 'yes' })), headers: json }, status: 400, code: 'invalid_request', param: 'stream', message: /boolean or null; it is a string/ },
] // prettier-ignore

test('what is not a valid request is refused with its reason', async (t) => {
  await using fake = await FakeUpstream.start()
  await using gateway = await startGateway({
    server: { bodyBytesMax: 65_536 },
    upstreams: [upstream('a', fake.url)],
  })
  for (const { name, path, init, status, code, param, message } of refusals) {
    await t.test(name, async () => {
      const response = await fetch(gateway.url + (path ?? '/v1/chat/completions'), init)
      const { error } = (await response.json()) as ErrorReply
      assert.equal(response.status, status)
      assert.equal(error.code, code)
      assert.equal(error.param, param ?? null)
      assert.match(error.message, message ?? /./)
      assert.ok(response.headers.get('x-request-id'))
    })
  }
  assert.equal(fake.requests.length, 0)
})

test('whatever the body is, the answer is never a 500', async () => {
  await using fake = await FakeUpstream.start(answerChat())
  await using gateway = await startGateway({ upstreams: [upstream('a', fake.url)] })
  const value = fc.oneof(
    { weight: 3, arbitrary: fc.json() },
    fc.string(),
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
    fc.record({ model: fc.constant('m'), messages: fc.jsonValue(), stream: fc.jsonValue(), stream_options: fc.jsonValue() }).map((body) => JSON.stringify(body)),
    fc.record({ role: fc.string(), content: fc.jsonValue() }).map((message) => JSON.stringify(chat({ messages: [message], stream: true, user: message.role }))),
  ) // prettier-ignore
  const path = fc.constantFrom('/v1/completions', '/v1/chat/completions', '/v1/embeddings')
  await fc.assert(
    fc.asyncProperty(path, value, async (path, body) => {
      const response = await post(gateway.url, path, body)
      await response.arrayBuffer()
      assert.ok(response.status < 500, `${response.status} for ${body}`)
    }),
    { numRuns: 300 },
  )
  await metricReaches(gateway.url, 'autoglm_requests_in_flight', 1)
})

/** Sends bytes and returns all that comes back until the server closes. */
async function talk(url: string, text: string): Promise<string> {
  const { port } = new URL(url)
  const socket = connect(Number(port), '127.0.0.1')
  let answer = ''
  socket.on('data', (data) => (answer += String(data)))
  socket.write(text)
  await once(socket, 'close')
  return answer
}

test('a sender that is too slow is cut off, with headers or body unfinished', async () => {
  await using fake = await FakeUpstream.start()
  await using gateway = await startGateway({
    server: { headersTimeoutMs: 300, requestTimeoutMs: 600 },
    upstreams: [upstream('a', fake.url)],
  })
  assert.match(
    await talk(gateway.url, 'POST /v1/completions HTTP/1.1\r\nhost: x\r\n'),
    /^HTTP\/1.1 408 .*request_timeout/s,
  )
  const half =
    'POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"mod'
  assert.match(await talk(gateway.url, half), /^HTTP\/1.1 408/)
})

test('what is not HTTP, or a flood of headers, gets an answer in shape and the connection is closed', async () => {
  await using fake = await FakeUpstream.start()
  await using gateway = await startGateway({ upstreams: [upstream('a', fake.url)] })
  assert.match(await talk(gateway.url, 'hello\r\n\r\n'), /^HTTP\/1.1 400 .*"code":"invalid_request"/s)
  const flood = `GET / HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(70_000)}\r\n\r\n`
  assert.match(await talk(gateway.url, flood), /^HTTP\/1.1 431 .*"code":"headers_too_large"/s)
  const smuggled =
    'POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET'
  assert.match(await talk(gateway.url, smuggled), /^HTTP\/1.1 400/)
})

test('/healthz, /livez and /readyz say what works and what does not', async () => {
  await using fake = await FakeUpstream.start()
  await using gateway = await startGateway({
    upstreams: [upstream('a', fake.url)],
    health: { probeIntervalMs: 20, probeTimeoutMs: 200, probeFailuresMax: 1 },
  })
  const ask = async (path: string) => {
    const response = await fetch(gateway.url + path)
    return {
      status: response.status,
      body: (await response.json()) as { status: string; reasons?: string[] },
    }
  }
  assert.deepEqual(await ask('/healthz'), {
    status: 200,
    body: { status: 'healthy', components: ['llm-router', 'task-queue', 'storage-engine'] },
  })
  assert.equal((await ask('/readyz')).status, 200)
  await fake.stop()
  while ((await ask('/readyz')).status === 200);
  const ill = await ask('/healthz')
  assert.equal(ill.status, 503)
  assert.equal(ill.body.status, 'unhealthy')
  assert.match(String(ill.body.reasons), /no instance of m is well: a is unready/)
  assert.equal((await ask('/livez')).status, 200)
})

test('a server that stops says so to who still has a connection, and takes nothing else', async () => {
  await using fake = await FakeUpstream.start()
  await using gateway = await startGateway({ upstreams: [upstream('a', fake.url)] })
  /** With the first answer the server has a part of the next request as well: the connection is not idle. */
  const begin = async (path: string) => {
    const socket = connect({ port: Number(new URL(gateway.url).port), host: '127.0.0.1' })
    const line = (path: string) => `GET ${path} HTTP/1.1\r\nhost: localhost\r\n`
    let text = ''
    socket.on('data', (data) => (text += data.toString()))
    socket.write(`${line('/livez')}\r\n${line(path)}`)
    await once(socket, 'data')
    return async () => {
      socket.write('\r\n')
      await once(socket, 'close')
      return text
    }
  }
  const paths = ['/livez', '/readyz', '/v1/models']
  const begun = await Promise.all(paths.map(begin))
  const stopped = gateway.stop()
  const [live = '', ready = '', models = ''] = await Promise.all(begun.map((end) => end()))
  await stopped
  assert.deepEqual([live, ready, models].map(readStatuses), [[200, 200], [200, 503], [200, 503]]) // prettier-ignore
  assert.match(ready, /"reasons":\["the server is stopping"\]/)
  assert.match(models, /"code":"shutting_down"/)
})

test('the API is described at /openapi.json, every route of it, and readable at /docs', async () => {
  await using fake = await FakeUpstream.start()
  await using gateway = await startGateway({ upstreams: [upstream('a', fake.url)] })
  const document = (await (await fetch(`${gateway.url}/openapi.json`)).json()) as {
    openapi: string
    paths: object
  }
  assert.match(document.openapi, /^3\./)
  assert.deepEqual(Object.keys(document.paths).sort(), [
    '/.well-known/jwks.json', '/auth/token', '/healthz', '/livez', '/metrics', '/readyz',
    '/v1/admin/keys', '/v1/admin/keys/{id}', '/v1/admin/keys/{id}/revoke',
    '/v1/admin/tenants', '/v1/admin/tenants/{name}',
    '/v1/batches', '/v1/batches/{id}', '/v1/batches/{id}/cancel',
    '/v1/chat/completions', '/v1/completions', '/v1/embeddings',
    '/v1/files', '/v1/files/{id}', '/v1/files/{id}/content', '/v1/models', '/v1/models/{id}',
    '/v1/responses', '/v1/responses/{id}', '/v1/responses/{id}/cancel', '/v1/responses/{id}/input_items',
    '/v1/tasks', '/v1/tasks/{id}', '/v1/tasks/{id}/cancel', '/v1/tasks/{id}/events', '/v1/tasks/{id}/requeue', '/v1/usage',
  ]) // prettier-ignore
  const page = await fetch(`${gateway.url}/docs`)
  assert.equal(page.status, 200)
  assert.match(await page.text(), /swagger/)
})
