import { strict as assert } from 'node:assert'
import { once } from 'node:events'
import { connect } from 'node:net'
import { it, mock } from 'node:test'
import { TestAccess } from '../helpers/access.ts'
import { AccessServer } from '../helpers/access-server.ts'

it('an answer that is on its way is not replaced by one about what was sent behind its request', async () => {
  await using access = await TestAccess.open()
  const { text } = await access.makeKey({ roles: ['admin'] })
  await using server = await AccessServer.start(access)
  const asked = Promise.withResolvers<void>()
  const go = Promise.withResolvers<null>()
  mock.method(access.store.access, 'getKey', () => {
    asked.resolve()
    return go.promise
  })
  const { port, hostname } = new URL(server.url)
  const socket = connect(Number(port), hostname)
  let got = ''
  socket.setEncoding('latin1').on('data', (text: string) => (got += text))
  socket.write(
    'GET /livez HTTP/1.1\r\nHost: x\r\n\r\n' +
      `GET /v1/admin/tenants HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${text}\r\n\r\n`,
  )
  await asked.promise
  while (!got.includes('"components"')) await once(socket, 'data')
  // The first answer is complete, the second request waits for its own.
  socket.write('NONSENSE\r\n\r\n')
  await once(socket, 'close')
  go.resolve(null)
  assert.deepEqual(got.match(/HTTP\/1\.1 \d+/g), ['HTTP/1.1 200'])
})
