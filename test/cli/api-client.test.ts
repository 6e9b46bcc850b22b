import { strict as assert } from 'node:assert'
import { createServer as createHttp } from 'node:http'
import { createServer as createHttps } from 'node:https'
import { once } from 'node:events'
import type { AddressInfo, Server } from 'node:net'
import { createServer as createTcp } from 'node:net'
import { describe, it } from 'node:test'
import { listModels } from '../../src/cli/api-client.ts'
import { Certificates, opensslSkip } from '../helpers/certificates.ts'

/** What a command says of a server, asked over `scheme`. */
async function hear(server: Server, scheme: 'http' | 'https'): Promise<string> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}`
  try {
    await listModels({ url, apiKey: null })
    return 'models'
  } catch (error) {
    return (error as Error).message.replace(url, 'URL')
  } finally {
    server.close()
  }
}

describe('a server that is there, and is not understood', () => {
  it('is told from one that is not: HTTPS is asked of plain HTTP', async () => {
    assert.equal(await hear(createHttp(), 'https'), 'URL does not speak HTTPS; try it with http://')
  })

  it('is told from one that is not: it hangs up', async () => {
    const server = createTcp((socket) => socket.once('data', () => socket.destroy()))
    assert.match(
      await hear(server, 'http'),
      /^URL closed the connection without an answer; does it speak HTTPS\?$/,
    )
  })

  it('is told from one that is not: nobody knows its certificate', { skip: opensslSkip() }, async () => {
    await using made = await Certificates.make()
    assert.match(
      await hear(createHttps(made.makeOwn('localhost')), 'https'),
      /^the certificate of URL is signed by nobody who is known here \([A-Z_]+\); .* NODE_EXTRA_CA_CERTS$/,
    )
  })
})
