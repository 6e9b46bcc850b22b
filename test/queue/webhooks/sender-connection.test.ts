import { strict as assert } from 'node:assert'
import { execFileSync } from 'node:child_process'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer as createTlsServer } from 'node:https'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { getCACertificates, setDefaultCACertificates, type TLSSocket } from 'node:tls'
import { eventually } from '../../helpers/server.ts'
import { FakeUpstream } from '../../helpers/upstream.ts'
import { begin, hook, receive, rules } from './sender-bench.ts'

test('a redirect is not followed', async (t) => {
  const receiver = await receive(t, 302)
  const { outbox } = await begin(t)
  outbox.add('task_1', hook(receiver))
  await outbox.until(() => outbox.settled.length === 1)
  assert.equal(receiver.requests.length, 1)
  assert.notEqual(outbox.settled[0]?.retryAtMs, null)
})

/** Resolves when the head of an answer of this receiver has arrived where it is read. */
function headFrom({ port }: FakeUpstream): Promise<void> {
  const channel = 'undici:request:headers'
  return new Promise((resolve) => {
    const hear = (message: unknown) => {
      const { origin } = (message as { request: { origin: string | URL } }).request
      if (new URL(origin).port !== String(port)) return
      unsubscribe(channel, hear)
      resolve()
    }
    subscribe(channel, hear)
  })
}

test('a receiver that hangs is cut off in time, before and after its head', async (t) => {
  for (const head of [false, true]) {
    const receiver = await FakeUpstream.start((_request, response) => {
      if (head) response.writeHead(200, { 'content-length': '10' }).write('x')
    })
    t.after(() => receiver.stop())
    const { outbox, clock } = await begin(t)
    const arrived = head ? headFrom(receiver) : null
    outbox.add('task_1', hook(receiver))
    await receiver.until(() => receiver.active === 1)
    await arrived
    clock.advance(9_999)
    assert.equal(outbox.settled.length, 0)
    clock.advance(1)
    await outbox.until(() => outbox.settled.length === 1)
    assert.equal(outbox.settled[0]?.retryAtMs === null, head, 'a head of 200 is a delivery')
    await receiver.until(() => receiver.active === 0)
  }
})

test('an answer without end is not read to its end', async (t) => {
  const receiver = await FakeUpstream.start((_request, response) => {
    const chunk = Buffer.alloc(65_536)
    const pour = () => {
      while (response.writable && response.write(chunk));
    }
    response.writeHead(200).on('drain', pour)
    pour()
  })
  t.after(() => receiver.stop())
  const { outbox } = await begin(t)
  outbox.add('task_1', hook(receiver))
  await outbox.until(() => outbox.settled.length === 1)
  assert.equal(outbox.settled[0]?.retryAtMs, null)
  await receiver.until(() => receiver.active === 0)
})

test('a receiver that is no HTTP server, or is not there, is a failure like any other', async (t) => {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.end('220 smtp ready\r\n')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const { port } = server.address() as AddressInfo
  const { outbox } = await begin(t)
  outbox.add('task_1', `http://127.0.0.1:${port}/`)
  outbox.add('task_2', 'http://127.0.0.1:1/')
  await outbox.until(() => outbox.settled.length === 2)
  assert(outbox.settled.every(({ retryAtMs }) => retryAtMs !== null))
})

test('the connection goes to the judged address, however the name answers later', async (t) => {
  const receiver = await receive(t)
  const answers = [['127.0.0.1'], ['169.254.169.254']]
  const asked: string[] = []
  const resolve = (host: string) => {
    asked.push(host)
    return Promise.resolve(answers[asked.length - 1] ?? [])
  }
  const { outbox } = await begin(t, { resolve })
  outbox.add('task_1', `http://rebinding.invalid:${receiver.port}/hook`)
  await outbox.until(() => outbox.settled.length === 1)
  assert.deepEqual(asked, ['rebinding.invalid'], 'a second question would be a second answer')
  assert.equal(receiver.requests[0]?.headers.host, `rebinding.invalid:${receiver.port}`)
  assert.equal(outbox.settled[0]?.retryAtMs, null)
})

test('a name that leads inside is given up without a connection', async (t) => {
  let connections = 0
  const server = createServer((socket) => {
    connections += 1
    socket.destroy()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const { port } = server.address() as AddressInfo
  const own = { ...rules, allowPrivate: false }
  const { outbox, lines } = await begin(t, { rules: own, resolve: () => Promise.resolve(['8.8.8.8', '127.0.0.1']) }) // prettier-ignore
  outbox.add('task_1', `https://inside.example:${port}/`)
  outbox.add('task_2', `https://127.0.0.1:${port}/`)
  outbox.add('task_3', `http://8.8.8.8:${port}/`)
  await outbox.until(() => outbox.settled.length === 3)
  assert(outbox.settled.every(({ retryAtMs }) => retryAtMs === null))
  assert.equal(connections, 0)
  await eventually('the log says so', () => lines.filter((line) => line.includes('given up')).length === 3)
})

test('a resolver that never answers is cut off in time', async (t) => {
  const { outbox, clock } = await begin(t, { resolve: () => new Promise(() => {}) })
  outbox.add('task_1', 'http://slow.invalid/')
  await eventually('the delivery runs', () => clock.pending === 2)
  clock.advance(10_000)
  await outbox.until(() => outbox.settled.length === 1)
})

test('TLS asks for the name, and a wrong certificate is refused', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'autoglm-hook-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key, '-out', cert, '-days', '2', '-subj', '/CN=hook.invalid', '-addext', 'subjectAltName=DNS:hook.invalid'], { stdio: 'ignore' }) // prettier-ignore
  const names: unknown[] = []
  const server = createTlsServer(
    { key: readFileSync(key), cert: readFileSync(cert) },
    (request, response) => {
      names.push((request.socket as TLSSocket & { servername: unknown }).servername)
      request.resume().on('end', () => response.writeHead(200).end())
    },
  )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const before = getCACertificates('default')
  setDefaultCACertificates([...before, readFileSync(cert, 'utf8')])
  t.after(() => setDefaultCACertificates(before))
  const { port } = server.address() as AddressInfo
  const { outbox } = await begin(t, { resolve: () => Promise.resolve(['127.0.0.1']) })
  outbox.add('task_1', `https://hook.invalid:${port}/`)
  await outbox.until(() => outbox.settled.length === 1)
  outbox.add('task_2', `https://other.invalid:${port}/`)
  await outbox.until(() => outbox.settled.length === 2)
  assert.deepEqual(names, ['hook.invalid'])
  assert.equal(outbox.settled[0]?.retryAtMs, null)
  assert.notEqual(outbox.settled[1]?.retryAtMs, null)
})
