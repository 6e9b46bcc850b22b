import { strict as assert } from 'node:assert'
import { spawn, type ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { AckPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream'
import { connect as connectNats, nanos } from '@nats-io/transport-node'
import { connect as connectRabbit } from 'amqplib'
import type { Queue } from '../../src/queue/queue.ts'
import { eventually } from '../helpers/server.ts'
import { serviceSkip, serviceUrl } from '../helpers/services.ts'
import { makeBench, taskBody, type IngressBench } from '../queue/ingress/ingress-bench.ts'
import { TcpProxy } from '../queue/ingress/tcp-proxy.ts'

const rabbitSkip = await serviceSkip('rabbitmq')
const natsSkip = await serviceSkip('nats')

const target = (url: string, port: number) => ({
  host: new URL(url).hostname,
  port: Number(new URL(url).port) || port,
})

/** Every message is one task: none is lost, none is there twice, none is unexpected. */
async function checkTasks({ tasks }: IngressBench, wanted: ReadonlySet<string>): Promise<void> {
  const found = (await tasks()).map(({ metadata }) => metadata['at'] ?? '')
  assert.equal(found.length, new Set(found).size, 'a task is there twice')
  assert.deepEqual(found.sort(), [...wanted].sort())
}

/** A queue whose first commits are followed by a cut, before anything can be acknowledged. */
function cutAfterCommit(queue: Queue, cut: () => void, times: number): Pick<Queue, 'submitAll'> {
  let left = times
  return {
    submitAll: async (specs) => {
      const outcomes = await queue.submitAll(specs)
      if (left > 0) cut()
      left -= 1
      return outcomes
    },
  }
}

async function openRabbit(t: TestContext) {
  const queue = `autoglm-fault-${randomUUID()}`
  const url = serviceUrl('rabbitmq')
  const model = await connectRabbit(url)
  const channel = await model.createConfirmChannel()
  const proxy = await TcpProxy.start(target(url, 5672))
  const bench = await makeBench(t)
  t.after(async () => {
    await proxy[Symbol.asyncDispose]()
    for (const name of [queue, `${queue}.dead`]) await channel.deleteQueue(name)
    await channel.deleteExchange(`${queue}.dlx`)
    await model.close()
  })
  const send = async (at: string) => {
    channel.sendToQueue(queue, taskBody({ metadata: { at } }), { messageId: at, persistent: true })
    await channel.waitForConfirms()
  }
  const isEmpty = async () => {
    const [own, dead] = await Promise.all([channel.checkQueue(queue), channel.checkQueue(`${queue}.dead`)])
    assert.equal(dead.messageCount, 0, 'a good message is among the dead letters')
    return own.messageCount === 0
  }
  return { bench, queue, proxy, send, isEmpty, url: `amqp://guest:guest@127.0.0.1:${proxy.port}` }
}

test('RabbitMQ: connections cut between commit and acknowledgement lose and double nothing', { skip: rabbitSkip }, async (t) => {
  const { bench, queue, proxy, send, isEmpty, url } = await openRabbit(t)
  let cuts = 0
  const own = cutAfterCommit(bench.queue, () => { cuts += 1; proxy.cut() }, 5)
  const source = await bench.source({ url, queue, prefetch: 16, deliveriesMax: 50 }, { queue: own })
  await eventually('connected', () => source.connected)
  const wanted = new Set(Array.from({ length: 200 }, (_, at) => String(at)))
  for (const at of wanted) await send(at)
  await eventually('all are tasks', async () => (await bench.tasks()).length >= 200 && (await isEmpty()))
  await source.stop()
  await checkTasks(bench, wanted)
  assert.equal(cuts, 5)
  assert(proxy.connections >= 2)
  assert(await isEmpty(), 'an acknowledged message came back')
}) // prettier-ignore

test('RabbitMQ: away for a while, at the start and later', { skip: rabbitSkip }, async (t) => {
  const { bench, queue, proxy, send, isEmpty, url } = await openRabbit(t)
  proxy.refuse(true)
  const source = await bench.source({ url, queue, deliveriesMax: 50 })
  await eventually('it was tried', () => proxy.connections >= 3)
  assert(!source.connected)
  proxy.refuse(false)
  await eventually('connected', () => source.connected)
  await send('0')
  await eventually('the first is a task', async () => (await bench.tasks()).length === 1)
  proxy.refuse(true)
  await eventually('it is noticed', () => !source.connected)
  for (let at = 1; at < 50; at += 1) await send(String(at))
  proxy.refuse(false)
  await eventually('all are tasks', async () => (await bench.tasks()).length >= 50 && (await isEmpty()))
  await checkTasks(bench, new Set(Array.from({ length: 50 }, (_, at) => String(at))))
})

test('NATS: connections cut between commit and acknowledgement lose and double nothing', { skip: natsSkip }, async (t) => {
  const subject = `autoglm-fault-${randomUUID()}`
  const url = serviceUrl('nats')
  const connection = await connectNats({ servers: new URL(url).host })
  const manager = await jetstreamManager(connection)
  const proxy = await TcpProxy.start(target(url, 4222))
  const bench = await makeBench(t)
  await manager.streams.add({ name: subject, subjects: [subject] })
  // As the source would make it, but for the time until a redelivery.
  await manager.consumers.add(subject, { durable_name: `autoglm_${subject}`, ack_policy: AckPolicy.Explicit, ack_wait: nanos(1_000), filter_subject: subject })
  t.after(async () => {
    await proxy[Symbol.asyncDispose]()
    for (const name of [subject, `${subject}_dead`]) await manager.streams.delete(name)
    await connection.close()
  })
  let cuts = 0
  const own = cutAfterCommit(bench.queue, () => { cuts += 1; proxy.cut() }, 5)
  const source = await bench.source({ url: `nats://127.0.0.1:${proxy.port}`, queue: subject, prefetch: 16, deliveriesMax: 50 }, { queue: own })
  await eventually('connected', () => source.connected)
  // Half of them without an id: these are known by their place in the stream.
  const client = jetstream(connection)
  const wanted = new Set(Array.from({ length: 200 }, (_, at) => String(at)))
  for (const at of wanted) {
    await client.publish(subject, taskBody({ metadata: { at } }), Number(at) % 2 === 0 ? { msgID: at } : {})
  }
  await eventually('all are acknowledged', async () => {
    const { ack_floor, num_ack_pending } = await manager.consumers.info(subject, `autoglm_${subject}`)
    return ack_floor.stream_seq === 200 && num_ack_pending === 0
  })
  await source.stop()
  await checkTasks(bench, wanted)
  assert.equal(cuts, 5)
}) // prettier-ignore

/** Silent connections are found by heartbeats and pings of ten seconds, of which two may be missing. */
async function checkHalfOpen(t: TestContext, url: string, port: number): Promise<void> {
  const { source, lines } = await makeBench(t)
  const proxy = await TcpProxy.start(target(url, port))
  t.after(() => proxy[Symbol.asyncDispose]())
  const through = new URL(url)
  through.host = `127.0.0.1:${proxy.port}`
  const own = await source({ url: through.href, queue: 'autoglm-fault-half-open' })
  await eventually('connected', () => own.connected)
  proxy.stall()
  await eventually('it is noticed', () => !own.connected, 40_000)
  await eventually('connected again', () => own.connected)
  proxy.stall()
  const startMs = performance.now()
  await own.stop()
  assert(performance.now() - startMs < 9_000, 'a silent broker holds up the end')
  assert(lines.some((line) => line.includes('broker not connected')))
}

test('RabbitMQ: a connection that has gone silent is found, and does not hold up the end', { skip: rabbitSkip }, async (t) => {
  const url = serviceUrl('rabbitmq')
  t.after(async () => {
    const model = await connectRabbit(url)
    const channel = await model.createChannel()
    for (const end of ['', '.dead']) await channel.deleteQueue(`autoglm-fault-half-open${end}`)
    await channel.deleteExchange('autoglm-fault-half-open.dlx')
    await model.close()
  })
  await checkHalfOpen(t, url, 5672)
}) // prettier-ignore

test('NATS: a connection that has gone silent is found, and does not hold up the end', { skip: natsSkip }, async (t) => {
  const url = serviceUrl('nats')
  t.after(async () => {
    const connection = await connectNats({ servers: new URL(url).host })
    const manager = await jetstreamManager(connection)
    for (const end of ['', '_dead']) await manager.streams.delete(`autoglm-fault-half-open${end}`)
    await connection.close()
  })
  await checkHalfOpen(t, url, 4222)
}) // prettier-ignore

const natsServer = ['/usr/sbin/nats-server', '/usr/local/bin/nats-server', '/usr/bin/nats-server'].find(existsSync) // prettier-ignore

/** A server of the test's own, that may be killed. */
async function startNats(port: number, folder: string): Promise<ChildProcess> {
  const child = spawn(natsServer ?? '', ['-a', '127.0.0.1', '-p', String(port), '-js', '-sd', folder], { stdio: 'ignore' }) // prettier-ignore
  await eventually('it takes connections', async () => {
    const connection = await connectNats({ servers: `127.0.0.1:${port}`, reconnect: false, timeout: 1_000 }).catch(() => null) // prettier-ignore
    const manager = connection && (await jetstreamManager(connection).catch(() => null))
    await connection?.close()
    return manager !== null
  })
  return child
}

async function takeFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

test('NATS: killed and started again under load', { skip: natsServer === undefined && natsSkip === false ? 'no nats-server program here' : natsSkip }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'autoglm-nats-'))
  const port = await takeFreePort()
  let server = await startNats(port, folder)
  const bench = await makeBench(t)
  t.after(async () => {
    server.kill('SIGKILL')
    await rm(folder, { recursive: true, force: true })
  })
  const source = await bench.source({ url: `nats://127.0.0.1:${port}`, queue: 'work', prefetch: 16, deliveriesMax: 50 })
  await eventually('connected', () => source.connected)
  // The producer sends each message, by its id, until the server says that it has it.
  const confirmed = new Set<string>()
  let stopped = false
  const produce = async () => {
    for (let at = 0; !stopped; at += 1) {
      while (!confirmed.has(String(at)) && !stopped) {
        const connection = await connectNats({ servers: `127.0.0.1:${port}`, reconnect: false, timeout: 500 }).catch(() => null)
        try {
          while (connection && !stopped) {
            await jetstream(connection).publish('work', taskBody({ metadata: { at: String(at) } }), { msgID: String(at), timeout: 500 })
            confirmed.add(String(at))
            at += 1
            await new Promise((resolve) => setTimeout(resolve, 5))
          }
        } catch {
          // It was killed: once more, with the same id.
        }
        await connection?.close()
      }
    }
  }
  const producing = produce()
  for (let kills = 1; kills <= 3; kills += 1) {
    const goal = confirmed.size + 50
    await eventually('some were sent', () => confirmed.size >= goal)
    server.kill('SIGKILL')
    await once(server, 'exit')
    await eventually('it is noticed', () => !source.connected)
    server = await startNats(port, folder)
    await eventually('connected again', () => source.connected)
  }
  stopped = true
  await producing
  await eventually('all that was confirmed is a task', async () => {
    const found = new Set((await bench.tasks()).map(({ metadata }) => metadata['at']))
    return [...confirmed].every((at) => found.has(at))
  }, 60_000)
  const found = (await bench.tasks()).map(({ metadata }) => metadata['at'] ?? '')
  assert.equal(found.length, new Set(found).size, 'a task is there twice')
  // One whose confirmation was cut off may be there as well.
  assert(found.length - confirmed.size <= 4, `${found.length} tasks of ${confirmed.size} messages`)
}) // prettier-ignore
