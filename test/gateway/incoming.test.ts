import { strict as assert } from 'node:assert'
import { createServer, IncomingMessage, type IncomingHttpHeaders } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { Incoming } from '../../src/gateway/incoming.ts'

type Parsed = IncomingMessage & { _addHeaderLines(raw: string[], length: number): void }

/** The headers of a message whose parser has read these. */
function parse(Message: typeof IncomingMessage, raw: string[]): IncomingHttpHeaders {
  const message = new Message(null as never) as Parsed
  message._addHeaderLines(raw, raw.length)
  return message.headers
}

/** Names of all that Node treats in a way of its own, in several spellings, beside names of nobody. */
const names = fc.oneof(
  fc.constantFrom(
    ...['Host', 'host', 'HOST', 'Cookie', 'cookie', 'Set-Cookie', 'set-cookie', 'Content-Length', 'Accept'],
    ...['X-Forwarded-For', 'Authorization', 'authorization', 'Expect', 'Transfer-Encoding', 'ETag', 'age'],
    ...['__proto__', 'constructor', 'toString', 'Sec-WebSocket-Protocol', 'x-stainless-os', 'X-Stainless-OS'],
  ),
  fc.stringMatching(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,70}$/),
)

test('headers are what Node makes of them', () => {
  const headers = fc.array(fc.tuple(names, fc.string({ maxLength: 20 })), { maxLength: 120 })
  fc.assert(
    fc.property(headers, (list) => {
      assert.deepEqual(parse(Incoming, list.flat()), parse(IncomingMessage, list.flat()))
    }),
    { numRuns: 2_000 },
  )
})

test('a request of a server has them, its trailers and the headers that others set', async () => {
  const seen: unknown[] = []
  const server = createServer({ IncomingMessage: Incoming }, (request, response) => {
    request.resume().on('end', () => {
      seen.push({ ...request.headers }, { ...request.trailers }, request.headersDistinct['x-a'])
      request.headers = { other: 'yes' }
      seen.push(request.headers)
      response.end()
    })
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  socket.write(
    'POST / HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: 2\r\nTransfer-Encoding: chunked\r\n' +
      'Connection: close\r\n\r\n0\r\nX-Late: 3\r\n\r\n',
  )
  await new Promise((resolve) => socket.resume().once('close', resolve))
  server.close()
  const headers = { host: 'h', 'x-a': '1, 2', 'transfer-encoding': 'chunked', connection: 'close' }
  assert.deepEqual(seen, [headers, { 'x-late': '3' }, ['1', '2'], { other: 'yes' }])
})
