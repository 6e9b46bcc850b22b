import { strict as assert } from 'node:assert'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { mock, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { SlowReaders } from '../../src/gateway/slow-readers.ts'
import { post } from '../helpers/gateway.ts'
import { eventually } from '../helpers/server.ts'
import { ResponseServer } from '../helpers/response-server.ts'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** Bytes in use once the garbage is gone. */
function usedBytes(): number {
  collectGarbage()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

/** Follows a response; resolves when it has been told that the response waits. No client keeps anything of its own. */
async function follow(
  url: string,
  head: string,
  body = Buffer.alloc(0),
): Promise<{ id: string; socket: Socket }> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  socket.write(`${head} HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n`)
  socket.write('content-type: application/json\r\nidempotency-key: the same\r\n\r\n')
  socket.write(body)
  let text = ''
  while (!text.includes('response.queued')) text += String((await once(socket, 'data'))[0])
  return { id: String(/resp_[0-9a-z]+/.exec(text)?.[0]), socket }
}

test('those who follow a background response do not keep in memory what was asked for', async () => {
  const bytes = 2_000_000
  const readers = 10
  const input = 'i'.repeat(bytes)
  const body = Buffer.from(JSON.stringify({ model: 'm', input, background: true, stream: true }))
  await using server = await ResponseServer.start()
  const { id, socket } = await follow(server.url, 'POST /v1/responses', body)
  const sockets = [socket]
  const before = usedBytes()
  for (let count = 0; count < readers; count += 1) {
    sockets.push((await follow(server.url, 'POST /v1/responses', body)).socket)
    sockets.push((await follow(server.url, `GET /v1/responses/${id}?stream=true`)).socket)
  }
  // Each of them would hold 2 MB, and more.
  await eventually('nothing of it is kept', () => usedBytes() - before < (readers * bytes) / 4, 20_000)
  for (const one of sockets) one.destroy()
})

test('a reader for whose event there is no room is told to come back, and does', async () => {
  await using server = await ResponseServer.start()
  const body = { model: 'm', input: 'Hi', background: true }
  const made = await post(server.url, '/v1/responses', { ...body, stream: true })
  const reader = (made.body as ReadableStream<Uint8Array>).getReader()
  let text = ''
  while (!text.includes('response.queued')) text += Buffer.from((await reader.read()).value ?? []).toString()
  const id = String(/resp_[0-9a-z]+/.exec(text)?.[0])
  await server.tasks.queue.cancel('default', id.replace('resp_', 'task_'))
  const rest = async (query: string) =>
    (await fetch(`${server.url}/v1/responses/${id}?stream=true${query}`)).text()
  const send = mock.method(SlowReaders.prototype, 'send', () => Promise.resolve(false))
  const turnedAway = await rest('')
  send.mock.restore()
  assert.match(
    turnedAway,
    /^: events follow\n\n: too many events wait for slow readers; come back [^\n]*\n\n$/,
  )
  assert.match(await rest('&starting_after=1'), /^: events follow\n\nevent: response\.failed\n/)
})
