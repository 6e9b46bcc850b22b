import { strict as assert } from 'node:assert'
import { randomUUID } from 'node:crypto'
import test, { type TestContext } from 'node:test'
import { jetstream, jetstreamManager } from '@nats-io/jetstream'
import { connect, headers as makeHeaders } from '@nats-io/transport-node'
import { eventually } from '../../helpers/server.ts'
import { serviceSkip, serviceUrl } from '../../helpers/services.ts'
import { makeBench, taskBody } from './ingress-bench.ts'

const skip = await serviceSkip('nats')
const url = serviceUrl('nats')

/** A subject of the test's own, its streams removed at its end. */
async function begin(t: TestContext) {
  const queue = `autoglm-test-${randomUUID()}`
  const connection = await connect({ servers: new URL(url).host })
  const manager = await jetstreamManager(connection)
  const client = jetstream(connection)
  const bench = await makeBench(t)
  t.after(async () => {
    for (const subject of [queue, `${queue}.dead`]) {
      const name = await manager.streams.find(subject).catch(() => null)
      if (name !== null) await manager.streams.delete(name)
    }
    await connection.close()
  })
  const send = (body: Uint8Array, own: Record<string, string> = {}) => {
    const headers = makeHeaders()
    for (const [name, value] of Object.entries(own)) headers.set(name, value)
    return client.publish(queue, body, { headers })
  }
  const getDead = async () => {
    const name = await manager.streams.find(`${queue}.dead`)
    await eventually('a dead letter is there', async () => (await manager.streams.info(name)).state.messages > 0) // prettier-ignore
    const found = await manager.streams.getMessage(name, { last_by_subj: `${queue}.dead` })
    assert(found)
    return found
  }
  /** Messages that the stream still holds: neither acknowledged nor ended. */
  const depth = async () => (await manager.streams.info(await manager.streams.find(queue))).state.messages
  return { ...bench, queue_: bench.queue, queue, manager, send, getDead, depth }
}

test('messages become tasks, with tenant and priority of their headers', { skip }, async (t) => {
  const { queue, send, source, tasks, depth } = await begin(t)
  const nats = await source({ url, queue })
  await eventually('connected', () => nats.connected)
  for (let at = 0; at < 200; at += 1) {
    await send(taskBody({ metadata: { at: String(at) } }), { 'X-Tenant': 'acme', 'x-priority': '7' })
  }
  await eventually('all is acknowledged', async () => (await tasks('acme')).length === 200 && (await depth()) === 0) // prettier-ignore
  const found = await tasks('acme')
  assert.equal(new Set(found.map(({ metadata }) => metadata['at'])).size, 200)
  assert(found.every(({ band }) => band === 7))
})

test('equal messages are two tasks, unless their id says that they are one', { skip }, async (t) => {
  const { queue, send, source, tasks, depth, manager } = await begin(t)
  // A stream that forgets ids at once: the same id comes twice, as it does after the window of a longer one.
  await manager.streams.add({ name: queue, subjects: [queue], duplicate_window: 100_000_000 })
  const nats = await source({ url, queue })
  await eventually('connected', () => nats.connected)
  await send(taskBody())
  await send(taskBody())
  await eventually('both are tasks', async () => (await tasks()).length === 2)
  await send(taskBody({ metadata: { a: '1' } }), { 'Nats-Msg-Id': 'one' })
  await eventually('the stream has forgotten the id', async () => {
    return !(await send(taskBody({ metadata: { a: '1' } }), { 'Nats-Msg-Id': 'one' })).duplicate
  })
  const consumer = await manager.consumers.info(queue, `autoglm_${queue}`)
  assert.equal(consumer.config.filter_subject, queue)
  await eventually('all are acknowledged', async () => {
    const { ack_floor } = await manager.consumers.info(queue, `autoglm_${queue}`)
    return ack_floor.stream_seq === 4
  })
  assert.equal((await tasks()).length, 3)
  assert.equal(await depth(), 4, 'a stream of another retention is left as it is')
})

test('poison goes to the dead subject with the reason, and takes nobody along', { skip }, async (t) => {
  const { queue, send, source, tasks, getDead, depth, lines } = await begin(t)
  const nats = await source({ url, queue })
  await eventually('connected', () => nats.connected)
  await send(Buffer.from('SECRET-BODY'), { own: 'kept', 'Nats-Msg-Id': 'x' })
  await send(taskBody())
  const dead = await getDead()
  assert.equal(dead.string(), 'SECRET-BODY')
  assert.equal(dead.header.get('x-error-code'), 'invalid_json')
  assert.match(dead.header.get('x-error'), /not valid JSON/)
  assert.equal(dead.header.get('own'), 'kept')
  await eventually('the good one is a task', async () => (await tasks()).length === 1)
  await eventually('nothing is left', async () => (await depth()) === 0)
  assert(!lines.join('').includes('SECRET'))
})

test('a full queue holds as many messages as are fetched at once, and no more', { skip }, async (t) => {
  const { queue, send, source, tasks, settings, depth, manager } = await begin(t)
  settings.tenantTasksMax = 3
  const nats = await source({ url, queue, prefetch: 4, deliveriesMax: 1 })
  await eventually('connected', () => nats.connected)
  for (let at = 0; at < 20; at += 1) await send(taskBody())
  await eventually('three are stored', async () => (await tasks()).length === 3)
  const look = () => manager.consumers.info(queue, `autoglm_${queue}`)
  await eventually('four are held', async () => (await look()).num_ack_pending === 4)
  for (let turn = 0; turn < 50; turn += 1) {
    const { num_ack_pending, num_redelivered } = await look()
    assert.deepEqual([num_ack_pending, num_redelivered], [4, 0], 'more are taken, or some given back')
  }
  settings.tenantTasksMax = 100
  await eventually('all are tasks', async () => (await tasks()).length === 20)
  await eventually('nothing is left', async () => (await depth()) === 0)
})

test(
  'a model that is not served yet costs deliveries, then ends among the dead letters',
  { skip },
  async (t) => {
    const { queue, send, source, getDead, models, tasks, depth } = await begin(t)
    models.clear()
    const nats = await source({ url, queue, deliveriesMax: 2 })
    await eventually('connected', () => nats.connected)
    await send(taskBody())
    assert.equal((await getDead()).header.get('x-error-code'), 'model_not_found')
    await eventually('nothing is left', async () => (await depth()) === 0)
    assert.equal((await tasks()).length, 0)
  },
)

test('the server starts without a broker, says so once and shows no password', async (t) => {
  const { source, lines } = await makeBench(t)
  const nats = await source({ url: 'nats://me:hunter2@127.0.0.1:1' })
  await eventually('it tries again', () => lines.filter((line) => line.includes('broker not')).length > 1)
  assert.equal(lines.filter((line) => line.includes('"level":40')).length, 1)
  assert(!lines.join('').includes('hunter2'))
  assert(!nats.connected)
  await nats.stop()
  await nats.stop()
})
