import { strict as assert } from 'node:assert'
import { execFileSync } from 'node:child_process'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer as createTlsServer } from 'node:https'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { getCACertificates, setDefaultCACertificates, type TLSSocket } from 'node:tls'
import OpenAI from 'openai'
import pino from 'pino'
import { WebhookSender, type SenderParts } from '../../../src/queue/webhooks/sender.ts'
import type { WebhookSettings } from '../../../src/queue/webhooks/settings.ts'
import { ManualClock } from '../../helpers/clock.ts'
import { eventually } from '../../helpers/server.ts'
import { FakeUpstream } from '../../helpers/upstream.ts'
import { FakeOutbox } from './fake-outbox.ts'

const secret = Buffer.alloc(32, 7)
const secretText = `whsec_${secret.toString('base64')}`
const rules: WebhookSettings = { secrets: [secret], allowPrivate: true, timeoutMs: 10_000, attemptsMax: 3 }

type Bench = { outbox: FakeOutbox; clock: ManualClock; sender: WebhookSender; lines: string[] }

/** A sender at work on a store in memory, stopped at the end of the test. */
async function begin(t: TestContext, more: Partial<SenderParts> & { rules?: WebhookSettings; outbox?: FakeOutbox } = {}): Promise<Bench> {
  const { rules: own, outbox = new FakeOutbox(), ...parts } = more
  const clock = (more.clock as ManualClock | undefined) ?? new ManualClock()
  const lines: string[] = []
  const log = pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) })
  const sender = new WebhookSender({ store: outbox.store, clock, settings: () => own ?? rules, log, random: () => 0.5, ...parts })
  await sender.start()
  t.after(() => sender.stop())
  return { outbox, clock, sender, lines }
} // prettier-ignore

/** A receiver whose statuses are given one after the other; the last one stays. */
async function receive(t: TestContext, ...statuses: number[]): Promise<FakeUpstream> {
  const receiver = await FakeUpstream.start((_request, response) => {
    const status = statuses.length > 1 ? statuses.shift() : statuses[0]
    response.writeHead(status ?? 204, status === 302 ? { location: '/elsewhere' } : {}).end()
  })
  t.after(() => receiver.stop())
  return receiver
}

const hook = (receiver: FakeUpstream, path = '/hook') => `http://127.0.0.1:${receiver.port}${path}`

test('a message is signed so that the openai package accepts it', async (t) => {
  const receiver = await receive(t)
  const { outbox, lines } = await begin(t)
  outbox.add('task_1', hook(receiver, '/hook?token=SECRET-TOKEN'))
  await outbox.until(() => outbox.settled.length === 1)
  const [request] = receiver.requests
  assert(request)
  assert.equal(request.path, '/hook?token=SECRET-TOKEN')
  assert.equal(request.headers['content-type'], 'application/json')
  const client = new OpenAI({ apiKey: 'k', webhookSecret: secretText })
  const headers = request.headers as Record<string, string>
  const event: unknown = await client.webhooks.unwrap(request.body.toString(), headers, undefined, 1e12)
  assert.deepEqual(event, {
    id: 'msg_task_1',
    object: 'event',
    type: 'task.succeeded',
    created_at: 3,
    data: {
      id: 'task_1', object: 'task', status: 'succeeded', endpoint: '/v1/completions', model: 'm', priority: 'normal',
      attempts: 1, created_at: 1, started_at: 2, finished_at: 3, metadata: { run: '7' }, error: null,
      usage: { prompt_tokens: 5, completion_tokens: 3, total_tokens: 8 },
    },
  }) // prettier-ignore
  assert.deepEqual(outbox.settled, [{ id: 'msg_task_1', attempt: 1, retryAtMs: null }])
  await assert.rejects(
    client.webhooks.unwrap(`${request.body.toString()} `, headers, undefined, 1e12),
    /signature/,
  )
  await eventually('the log says so', () => lines.length > 0)
  assert(!/SECRET|whsec/.test(lines.join('')), 'the log holds what it must not')
})

test('two secrets give two signatures, and either receiver is content', async (t) => {
  const receiver = await receive(t)
  const other = Buffer.alloc(24, 9)
  const { outbox } = await begin(t, { rules: { ...rules, secrets: [secret, other] } })
  outbox.add('task_1', hook(receiver))
  await outbox.until(() => outbox.settled.length === 1)
  const [request] = receiver.requests
  for (const webhookSecret of [secretText, `whsec_${other.toString('base64')}`]) {
    const client = new OpenAI({ apiKey: 'k', webhookSecret })
    await client.webhooks.unwrap(String(request?.body), request?.headers ?? {}, undefined, 1e12) // prettier-ignore
  }
})

test('a failure is tried again after its delay with the same id, then given up', async (t) => {
  const receiver = await receive(t, 500, 404, 503)
  const { outbox, clock, lines } = await begin(t)
  outbox.add('task_1', hook(receiver))
  await outbox.until(() => outbox.settled.length === 1)
  assert.equal(outbox.settled[0]?.retryAtMs, clock.wallMs() + 5_000)
  clock.advance(4_000)
  assert.equal(receiver.requests.length, 1)
  clock.advance(1_000)
  await outbox.until(() => outbox.settled.length === 2)
  assert.equal(outbox.settled[1]?.retryAtMs, clock.wallMs() + 20_000)
  clock.advance(20_000)
  await outbox.until(() => outbox.settled.length === 3)
  assert.equal(outbox.settled[2]?.retryAtMs, null)
  assert.equal(outbox.rows.size, 0)
  assert.equal(new Set(receiver.requests.map(({ headers }) => headers['webhook-id'])).size, 1)
  assert.equal(new Set(receiver.requests.map(({ headers }) => headers['webhook-timestamp'])).size, 3)
  const isSaid = (line: string) => line.includes('webhook given up') && line.includes('answered 503')
  await eventually('the log says so', () => lines.some(isSaid))
})

test('410 ends it at once', async (t) => {
  const receiver = await receive(t, 410)
  const { outbox } = await begin(t)
  outbox.add('task_1', hook(receiver))
  await outbox.until(() => outbox.settled.length === 1)
  assert.equal(outbox.settled[0]?.retryAtMs, null)
})

test('Retry-After is kept to', async (t) => {
  const receiver = await FakeUpstream.start((_request, response) => {
    response.writeHead(429, { 'retry-after': '90' }).end()
  })
  t.after(() => receiver.stop())
  const { outbox, clock } = await begin(t)
  outbox.add('task_1', hook(receiver))
  await outbox.until(() => outbox.settled.length === 1)
  assert.equal(outbox.settled[0]?.retryAtMs, clock.wallMs() + 90_000)
})

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

/** Lets the clock run in small steps, with what they set off, until it holds. */
async function pass(clock: ManualClock, holds: () => boolean): Promise<void> {
  while (!holds()) {
    clock.advance(100)
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}

test('a host that hangs holds up its own messages and no others', async (t) => {
  const slow = await FakeUpstream.start(() => {})
  t.after(() => slow.stop())
  const fast = await receive(t)
  const { outbox, clock } = await begin(t, { rules: { ...rules, timeoutMs: 120_000 } })
  for (let at = 0; at < 300; at += 1) outbox.add(`slow_${at}`, hook(slow))
  for (let at = 0; at < 100; at += 1) outbox.add(`fast_${at}`, hook(fast))
  await slow.until(() => slow.active === 8)
  const startMs = clock.now()
  await pass(clock, () => fast.requests.length === 100)
  assert(clock.now() - startMs < 119_000, 'sooner than the first of the slow ones is given up')
  assert.equal(slow.requests.length, 8)
})

test('a fast host gets many without one being put back', async (t) => {
  const receiver = await receive(t)
  const outbox = new FakeOutbox()
  for (let at = 0; at < 500; at += 1) outbox.add(`task_${at}`, hook(receiver))
  await begin(t, { outbox })
  await outbox.until(() => outbox.rows.size === 0)
  assert.equal(outbox.settled.length, 500)
})

test('a message put back for want of room has lost no attempt', async (t) => {
  let isSlow = true
  const receiver = await FakeUpstream.start((_request, response) => {
    if (!isSlow) response.writeHead(500).end()
  })
  t.after(() => receiver.stop())
  const { outbox, clock } = await begin(t)
  for (let at = 0; at < 73; at += 1) outbox.add(`task_${at}`, hook(receiver))
  await receiver.until(() => receiver.active === 8)
  await pass(clock, () => outbox.settled.length === 1)
  assert.equal(outbox.settled[0]?.id, 'msg_task_72', 'the line of 64 behind 8 is full')
  isSlow = false
  receiver.cut()
  const isOver = () => !outbox.rows.has('msg_task_72')
  await pass(clock, isOver)
  const tries = receiver.requests.filter(({ headers }) => headers['webhook-id'] === 'msg_task_72')
  assert.equal(tries.length, rules.attemptsMax)
})

test('a message that comes at the very end of a look does not wait for the next poll', async (t) => {
  for (let depth = 0; depth < 12; depth += 1) {
    // Refused, so that nothing has to be waited for but the look itself.
    const { outbox } = await begin(t, { rules: { ...rules, allowPrivate: false } })
    const comeIn = (turns: number) =>
      turns === 0 ? outbox.add('task_1', 'https://127.0.0.1/') : queueMicrotask(() => comeIn(turns - 1))
    comeIn(depth)
    for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve))
    assert.equal(outbox.settled.length, 1, `${depth} turns later`)
  }
})

test('tasks that are gone, or live again, are told nobody', async (t) => {
  const receiver = await receive(t)
  const outbox = new FakeOutbox()
  outbox.add('task_1', hook(receiver), { status: 'running' })
  outbox.add('task_2', hook(receiver))
  outbox.details.delete('task_2')
  await begin(t, { outbox })
  await outbox.until(() => outbox.rows.size === 0)
  assert.equal(receiver.requests.length, 0)
})

test('without a secret messages wait for one', async (t) => {
  const receiver = await receive(t)
  let secrets: Buffer[] = []
  const { outbox, clock } = await begin(t, { settings: () => ({ ...rules, secrets }) })
  outbox.add('task_1', hook(receiver))
  clock.advance(60_000)
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal(outbox.rows.get('msg_task_1')?.attempt, 0)
  secrets = [secret]
  clock.advance(1_000)
  await outbox.until(() => outbox.rows.size === 0)
  assert.equal(receiver.requests.length, 1)
})

test('a store that fails is asked again, and complained about once', async (t) => {
  const receiver = await receive(t)
  const outbox = new FakeOutbox()
  outbox.failing = true
  const { clock, lines } = await begin(t, { outbox })
  outbox.add('task_1', hook(receiver))
  for (let at = 0; at < 5; at += 1) {
    clock.advance(1_000)
    await new Promise((resolve) => setImmediate(resolve))
  }
  const complaints = lines.filter((line) => line.includes('storage'))
  assert.equal(complaints.length, 1)
  assert.match(complaints[0] ?? '', /"reason":"the disk is full"/)
  assert(!complaints[0]?.includes('stack'), 'a storage that is away needs no stack trace')
  outbox.failing = false
  clock.advance(1_000)
  await outbox.until(() => outbox.rows.size === 0)
})

test('what a dead sender held comes again after its lease', async (t) => {
  const receiver = await receive(t)
  const outbox = new FakeOutbox()
  const clock = new ManualClock()
  outbox.add('task_1', hook(receiver))
  // A sender that died right after the claim.
  await outbox.store.outbox.claim(clock.wallMs(), 110_000, 1)
  await begin(t, { outbox, clock })
  clock.advance(109_000)
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal(receiver.requests.length, 0)
  clock.advance(1_000)
  await outbox.until(() => outbox.rows.size === 0)
  assert.equal(receiver.requests.length, 1)
})

test('stop gives back what waits, cuts off what hangs after a moment, and may be repeated', async (t) => {
  const receiver = await FakeUpstream.start(() => {})
  t.after(() => receiver.stop())
  const { outbox, clock, sender } = await begin(t)
  for (let at = 0; at < 20; at += 1) outbox.add(`task_${at}`, hook(receiver))
  await receiver.until(() => receiver.active === 8)
  const stopped = sender.stop()
  await outbox.until(() => outbox.settled.length === 12)
  clock.advance(2_000)
  await stopped
  assert.equal(outbox.settled.length, 20)
  assert(outbox.settled.every(({ retryAtMs }) => retryAtMs !== null && retryAtMs <= clock.wallMs()))
  await sender.stop()
  assert.equal(clock.pending, 0)
  await new WebhookSender({ store: outbox.store, clock, settings: () => rules, log: pino({ level: 'silent' }) }).stop() // prettier-ignore
})
