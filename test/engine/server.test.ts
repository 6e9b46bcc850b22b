import { strict as assert } from 'node:assert'
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { connect, type AddressInfo, type Server } from 'node:net'
import { after, before, test } from 'node:test'
import type { Engine } from '../../engine/engine.ts'
import { createMetrics } from '../../engine/metrics.ts'
import { EventStream, unsentBytesMax } from '../../engine/reply.ts'
import { createEngineServer, raceAbort } from '../../engine/server.ts'

/** An engine without a model, in which reading a prompt is a fault. */
function createFaultyEngine() {
  const metrics = createMetrics('m')
  const engine = {
    metrics,
    scheduler: { jobsMax: 1, counts: { idle: 1, processing: 0, waiting: 0 } },
    loaded: {
      name: 'm',
      vocabulary: { longestBytes: 1 },
      tokenize() {
        throw new Error('boom')
      },
    },
  }
  return { engine: engine as unknown as Engine, metrics }
}

const lines: Record<string, unknown>[] = []
const { engine, metrics } = createFaultyEngine()
const { server, whenIdle } = createEngineServer(engine, { bodyBytesMax: 10_000, jsonDepthMax: 8 }, (line) =>
  lines.push(line as Record<string, unknown>),
)
let port: number
before(async () => {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  port = (server.address() as AddressInfo).port
})
after(() => {
  server.closeAllConnections()
  server.close()
})

function post(headers: Record<string, string> = {}) {
  return fetch(`http://127.0.0.1:${port}/v1/embeddings`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: '{"model":"m","input":"x"}',
  })
}

test('an internal error is logged under the id of its request, given or made, and the reply has it', async () => {
  lines.length = 0
  const given = await post({ 'x-request-id': 'req_7' })
  assert.deepEqual([given.status, given.headers.get('x-request-id')], [500, 'req_7'])
  assert.doesNotMatch(await given.text(), /boom/)
  const made = await post({ 'x-request-id': 'two words' })
  const id = made.headers.get('x-request-id')
  assert.match(id ?? '', /^req_\w+$/)
  assert.deepEqual(
    lines.map(({ requestId, error }) => [requestId, error]),
    [
      ['req_7', 'Error: boom'],
      [id, 'Error: boom'],
    ],
  )
})

test('paths of models share one label', async () => {
  for (const name of ['a', 'b', 'm']) await (await fetch(`http://127.0.0.1:${port}/v1/models/${name}`)).text()
  const text = await metrics.render()
  assert.match(text, /route="\/v1\/models\/\{id\}",status="404",model="m"\} 2/)
  assert.match(text, /route="\/v1\/models\/\{id\}",status="200",model="m"\} 1/)
  assert.doesNotMatch(text, /models\/[abm]"/)
})

test('headers that come too slowly are cut off soon after their time', async () => {
  server.headersTimeout = 100
  const socket = connect(port, '127.0.0.1')
  const startedAtMs = performance.now()
  socket.write('GET /health HTTP/1.1\r\nhost: x\r\n')
  const [chunk] = (await once(socket, 'data')) as [Buffer]
  assert.match(chunk.toString(), /^HTTP\/1\.1 408 /)
  assert.ok(performance.now() - startedAtMs < 5000)
  socket.destroy()
  server.headersTimeout = 10_000
})

test('a caller that hangs up within its body is no fault of the server', async () => {
  lines.length = 0
  const socket = connect(port, '127.0.0.1')
  socket.write('POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n{"model"')
  await once(server, 'request')
  socket.destroy()
  await whenIdle()
  await new Promise((resolve) => setImmediate(resolve))
  assert.deepEqual(lines, [])
  assert.match(await metrics.render(), /route="\/v1\/embeddings",status="499",model="m"\} 1/)
})

test('work that begins after the abort is not waited for', async () => {
  const gone = AbortSignal.abort(new Error('gone'))
  await assert.rejects(raceAbort(new Promise(() => {}), gone), /gone/)
})

/** What `serve` does with the response to a caller who reads nothing. */
async function withResponse(serve: (response: ServerResponse) => Promise<void>): Promise<void> {
  const plain: Server = createServer((_request, response) => {
    serve(response).then(() => done.resolve(), done.reject)
  })
  const done = Promise.withResolvers<void>()
  plain.listen(0, '127.0.0.1')
  await once(plain, 'listening')
  const socket = connect((plain.address() as AddressInfo).port, '127.0.0.1').pause()
  socket.on('error', () => {})
  socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
  await done.promise
  socket.destroy()
  plain.close()
}

test('an event after the end of a stream is dropped', () =>
  withResponse(async (response) => {
    const errors: unknown[] = []
    response.on('error', (error) => errors.push(error))
    const events = new EventStream(response)
    events.write('{}')
    events.end()
    events.write('{}')
    await new Promise((resolve) => setImmediate(resolve))
    assert.deepEqual(errors, [])
  }))

test('a stream that nobody reads is closed before it fills the memory', () =>
  withResponse(async (response) => {
    const events = new EventStream(response)
    const json = `"${'x'.repeat(1_000_000)}"`
    for (let i = 0; i < 60; i += 1) {
      events.write(json)
      assert.ok(response.writableLength < unsentBytesMax + 2_000_000)
    }
    assert.equal(response.destroyed, true)
    await new Promise((resolve) => setImmediate(resolve))
  }))
