import { strict as assert } from 'node:assert'
import { once } from 'node:events'
import { request } from 'node:https'
import { connect as connectTcp } from 'node:net'
import { describe, it } from 'node:test'
import { connect } from 'node:tls'
import pino from 'pino'
import { SetupError } from '../../src/core/errors.ts'
import { readTlsFiles, watchTlsFiles, type TlsSettings } from '../../src/gateway/tls-files.ts'
import { Certificates, opensslSkip } from '../helpers/certificates.ts'
import { ManualClock } from '../helpers/clock.ts'
import { startGateway, upstream } from '../helpers/gateway.ts'
import { sendRaw } from '../helpers/raw-http.ts'
import { eventually } from '../helpers/server.ts'
import { FakeUpstream } from '../helpers/upstream.ts'

const skip = opensslSkip()
if (skip !== false) console.log(`SKIPPED: ${skip}`)

type Client = { ca: string; cert?: string; key?: string }

/** GET /livez over TLS on a connection of its own: the status, or the code of the error. */
function ask(url: string, client: Client): Promise<number | string> {
  return new Promise((resolve) => {
    const call = request(`${url}/livez`, { ...client, agent: false }, (response) => {
      response.resume().on('end', () => resolve(response.statusCode ?? 0))
    })
    call.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    call.end()
  })
}

/** Whose certificate a server shows. */
function readServerName(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(
      { port: Number(new URL(url).port), host: '127.0.0.1', rejectUnauthorized: false },
      () => {
        resolve(String(socket.getPeerCertificate().subject.CN))
        socket.destroy()
      },
    )
    socket.on('error', reject)
  })
}

const serve = (fake: FakeUpstream, tls: Partial<TlsSettings>) =>
  startGateway({ upstreams: [upstream('a', fake.url)], server: { tls } })

describe('HTTPS', { skip }, () => {
  it('is spoken with a certificate, and nothing else on that port', async () => {
    await using certificates = await Certificates.make()
    await using fake = await FakeUpstream.start()
    const { cert } = certificates.makeOwn('server')
    await using gateway = await serve(fake, {
      certFile: certificates.path('server.crt'),
      keyFile: certificates.path('server.key'),
    })
    assert.match(gateway.url, /^https:/)
    assert.equal(await ask(gateway.url, { ca: cert }), 200)
    const plain = await sendRaw(gateway.url, 'GET /livez HTTP/1.1\r\nhost: x\r\n\r\n')
    assert.deepEqual(plain.statuses, [])
    const old = await new Promise<string>((resolve) => {
      const socket = connect({
        ...{ port: Number(new URL(gateway.url).port), host: '127.0.0.1', rejectUnauthorized: false },
        ...{ minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' },
      })
      socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''))
      socket.on('secureConnect', () => resolve('connected'))
    })
    assert.notEqual(old, 'connected', 'TLS 1.1 is not spoken')
    assert.equal(await ask(gateway.url, { ca: cert }), 200)
  })

  it(
    'lets go of who does not shake hands, and does not wait for it at the end',
    { timeout: 20_000 },
    async () => {
      await using certificates = await Certificates.make()
      await using fake = await FakeUpstream.start()
      certificates.makeOwn('server')
      const tls = { certFile: certificates.path('server.crt'), keyFile: certificates.path('server.key') }
      const server = { tls, headersTimeoutMs: 500 }
      const gateway = await startGateway({ upstreams: [upstream('a', fake.url)], server })
      const call = async () => {
        const socket = connectTcp(Number(new URL(gateway.url).port), '127.0.0.1')
        const closed = once(socket.resume(), 'close')
        await once(socket, 'connect')
        return { closed }
      }
      const { closed } = await call()
      await closed
      const last = await call()
      await gateway[Symbol.asyncDispose]()
      await last.closed
    },
  )

  it('takes a certificate that was renewed without a restart', async () => {
    await using certificates = await Certificates.make()
    await using fake = await FakeUpstream.start()
    certificates.makeOwn('first')
    const second = certificates.makeOwn('second')
    await certificates.write('live.crt', certificates.read('first.crt'))
    await certificates.write('live.key', certificates.read('first.key'))
    await using gateway = await serve(fake, {
      certFile: certificates.path('live.crt'),
      keyFile: certificates.path('live.key'),
    })
    assert.equal(await readServerName(gateway.url), 'first')
    await certificates.write('live.crt', second.cert)
    await certificates.write('live.key', second.key)
    await eventually('the new one is shown', async () => (await readServerName(gateway.url)) === 'second')
    assert.equal(await ask(gateway.url, { ca: second.cert }), 200)
  })

  for (const clientCert of ['require', 'request'] as const) {
    it(`asks clients for a certificate: ${clientCert}`, async () => {
      await using certificates = await Certificates.make()
      await using fake = await FakeUpstream.start()
      const { cert: ca } = certificates.makeOwn('server')
      certificates.makeOwn('authority')
      const known = certificates.makeSigned('known', 'authority')
      const stranger = certificates.makeOwn('stranger')
      await using gateway = await serve(fake, {
        certFile: certificates.path('server.crt'),
        keyFile: certificates.path('server.key'),
        clientCaFile: certificates.path('authority.crt'),
        clientCert,
      })
      assert.equal(await ask(gateway.url, { ca, ...known }), 200)
      for (const client of [{ ca }, { ca, ...stranger }]) {
        const answer = await ask(gateway.url, client)
        if (clientCert === 'request') assert.equal(answer, 200)
        else assert.match(String(answer), /^(ERR_SSL|ECONNRESET|EPIPE)/)
      }
    })
  }

  const broken: Record<string, (certificates: Certificates) => Promise<[Partial<TlsSettings>, RegExp]>> = {
    'a key of another certificate': async (made) => {
      made.makeOwn('a')
      made.makeOwn('b')
      return [{ certFile: made.path('a.crt'), keyFile: made.path('b.key') }, /a\.crt and the key .*b\.key can't be used together/]
    },
    'a certificate that is none': async (made) => {
      made.makeOwn('a')
      await made.write('a.crt', 'nothing')
      return [{ certFile: made.path('a.crt'), keyFile: made.path('a.key') }, /can't be used together/]
    },
    'a key that is not there': async (made) => {
      made.makeOwn('a')
      return [{ certFile: made.path('a.crt'), keyFile: made.path('none.key') }, /server\.tls\.keyFile: .*none\.key can't be read \(ENOENT\)/]
    },
    'an authority that is not there': async (made) => {
      made.makeOwn('a')
      return [{ certFile: made.path('a.crt'), keyFile: made.path('a.key'), clientCaFile: made.path('none.crt') }, /server\.tls\.clientCaFile: /]
    },
    'an authority that is none': async (made) => {
      made.makeOwn('a')
      await made.write('ca.crt', 'nothing')
      return [{ certFile: made.path('a.crt'), keyFile: made.path('a.key'), clientCaFile: made.path('ca.crt') }, /server\.tls\.clientCaFile: .*ca\.crt holds no certificate/]
    },
  } // prettier-ignore
  for (const [name, prepare] of Object.entries(broken)) {
    it(`does not start with ${name}`, async () => {
      await using certificates = await Certificates.make()
      await using fake = await FakeUpstream.start()
      const [tls, says] = await prepare(certificates)
      await assert.rejects(serve(fake, tls), (error: Error) => {
        assert.ok(error instanceof SetupError)
        assert.match(error.message, says)
        assert.ok(!error.message.includes('PRIVATE KEY'))
        return true
      })
    })
  }

  it('keeps the old certificate while the new one can not be used, and warns once', async () => {
    await using certificates = await Certificates.make()
    const first = certificates.makeOwn('first')
    const second = certificates.makeOwn('second')
    await certificates.write('live.crt', first.cert)
    await certificates.write('live.key', first.key)
    const settings = {
      ...{ certFile: certificates.path('live.crt'), keyFile: certificates.path('live.key') },
      ...{ clientCaFile: '', clientCert: 'require' as const },
    }
    const clock = new ManualClock()
    const lines: { level: number; msg: string }[] = []
    const log = pino({}, { write: (line: string) => void lines.push(JSON.parse(line) as never) })
    const taken: unknown[] = []
    const onChange = ({ cert }: { cert?: unknown }) => void taken.push(cert)
    const stop = watchTlsFiles(settings, await readTlsFiles(settings), { clock, log, onChange })
    const look = async (told: number) => {
      // Each look reads files: the one before is over when its words are there, or the next one has begun.
      await eventually('it was looked at', () => {
        clock.advance(5_000)
        return lines.length >= told
      })
    }
    // The certificate comes first, its key a moment later: as programs that renew them do it.
    await certificates.write('live.crt', second.cert)
    await look(1)
    for (let n = 0; n < 5; n += 1) {
      clock.advance(5_000)
      await readTlsFiles(settings).catch(() => {})
    }
    assert.deepEqual(taken, [])
    assert.deepEqual(lines.map(({ level }) => level), [40], 'said once')
    await certificates.write('live.key', second.key)
    await look(2)
    assert.deepEqual(taken, [second.cert])
    assert.equal(lines[1]?.msg, 'certificate read again')
    stop()
  }) // prettier-ignore
})
