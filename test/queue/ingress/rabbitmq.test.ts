import { strict as assert } from 'node:assert'
import { randomUUID } from 'node:crypto'
import test, { type TestContext } from 'node:test'
import { connect, type ConfirmChannel, type GetMessage } from 'amqplib'
import { eventually } from '../../helpers/server.ts'
import { serviceSkip, serviceUrl } from '../../helpers/services.ts'
import { makeBench, taskBody } from './ingress-bench.ts'

const skip = await serviceSkip('rabbitmq')
const url = serviceUrl('rabbitmq')

/** A queue of the test's own, removed at its end. */
async function begin(t: TestContext) {
  const queue = `autoglm-test-${randomUUID()}`
  const model = await connect(url)
  const channel = await model.createConfirmChannel()
  const bench = await makeBench(t)
  t.after(async () => {
    // On channels of their own: a test may have lost the one it worked with.
    for (const name of [queue, `${queue}.dead`]) await (await model.createChannel()).deleteQueue(name)
    await (await model.createChannel()).deleteExchange(`${queue}.dlx`)
    await model.close()
  })
  const send = (body: Buffer, options: Parameters<ConfirmChannel['sendToQueue']>[2] = {}) =>
    new Promise<void>((resolve, reject) => {
      channel.sendToQueue(queue, body, options, (error: unknown) =>
        error ? reject(new Error('refused')) : resolve(),
      )
    })
  const getDead = async () => {
    let dead: GetMessage | false = false
    await eventually('a dead letter is there', async () => {
      dead = await channel.get(`${queue}.dead`, { noAck: true })
      return dead !== false
    })
    return dead as unknown as GetMessage
  }
  const depth = async (name = queue) => (await channel.checkQueue(name)).messageCount
  return { ...bench, queue_: bench.queue, queue, channel, send, getDead, depth }
}

test('messages become tasks, with tenant, priority and key of the envelope', { skip }, async (t) => {
  const { queue, send, source, tasks, queue_, depth } = await begin(t)
  const rabbit = await source({ url, queue })
  await eventually('connected', () => rabbit.connected)
  for (let at = 0; at < 100; at += 1) {
    await send(taskBody({ metadata: { at: String(at) } }), {
      messageId: String(at),
      headers: { 'x-tenant': 'acme' },
      priority: 9,
    })
  }
  // The same messages once more, as a producer does that got no confirmation.
  for (let at = 0; at < 100; at += 1) {
    await send(taskBody({ metadata: { at: String(at) } }), {
      messageId: String(at),
      headers: { 'x-tenant': 'acme' },
      priority: 9,
    })
  }
  await eventually('all is acknowledged', async () => (await tasks('acme')).length === 100 && (await depth()) === 0) // prettier-ignore
  const found = await tasks('acme')
  assert.equal(new Set(found.map(({ metadata }) => metadata['at'])).size, 100)
  assert(found.every(({ band }) => band === 0))
  assert.equal((await queue_.count('acme')).queued, 100)
  await rabbit.stop()
  assert.equal(await depth(), 0, 'an acknowledgement was not sent')
})

test('poison goes to the dead letters with the reason, and takes nobody along', { skip }, async (t) => {
  const { queue, send, source, tasks, getDead, lines } = await begin(t)
  const rabbit = await source({ url, queue })
  await eventually('connected', () => rabbit.connected)
  await send(Buffer.from('SECRET-BODY'), {
    messageId: 'x',
    expiration: '60000',
    headers: { own: 'kept', CC: ['elsewhere'] },
    userId: 'guest',
  })
  await send(taskBody())
  const dead = await getDead()
  assert.equal(dead.content.toString(), 'SECRET-BODY')
  const { headers, expiration, messageId } = dead.properties
  assert.equal(headers?.['x-error-code'], 'invalid_json')
  assert.match(String(headers?.['x-error']), /not valid JSON/)
  assert.deepEqual([headers?.['own'], headers?.['CC'], expiration, messageId], ['kept', undefined, undefined, 'x']) // prettier-ignore
  await eventually('the good one is a task', async () => (await tasks()).length === 1)
  await send(taskBody({ deadline: 1 }))
  assert.equal((await getDead()).properties.headers?.['x-error-param'], 'deadline')
  assert(!lines.join('').includes('SECRET'))
})

test(
  'a full queue leaves messages with the broker, and takes them when there is room',
  { skip },
  async (t) => {
    const { queue, send, source, tasks, settings, queue_, depth } = await begin(t)
    settings.tenantTasksMax = 3
    const rabbit = await source({ url, queue, prefetch: 4, deliveriesMax: 1 })
    await eventually('connected', () => rabbit.connected)
    for (let at = 0; at < 10; at += 1) await send(taskBody(), { messageId: String(at) })
    await eventually('three are stored and four held', async () => (await tasks()).length === 3 && (await depth()) === 3) // prettier-ignore
    settings.tenantTasksMax = 100
    await eventually('all are tasks', async () => (await tasks()).length === 10)
    assert.equal(await depth(`${queue}.dead`), 0)
    assert.equal((await queue_.count('default')).queued, 10)
  },
)

test(
  'a model that is not served yet costs deliveries, then ends among the dead letters',
  { skip },
  async (t) => {
    const { queue, send, source, getDead, models, tasks } = await begin(t)
    models.clear()
    const rabbit = await source({ url, queue, deliveriesMax: 2 })
    await eventually('connected', () => rabbit.connected)
    await send(taskBody())
    const dead = await getDead()
    assert.equal(dead.properties.headers?.['x-error-code'], 'model_not_found')
    assert.equal((await tasks()).length, 0)
  },
)

test('a queue that was declared otherwise is used as it is', { skip }, async (t) => {
  const { queue, send, source, tasks, channel, lines, getDead } = await begin(t)
  await channel.assertQueue(queue, { durable: false })
  const rabbit = await source({ url, queue })
  await eventually('connected', () => rabbit.connected)
  assert(lines.some((line) => line.includes('declared otherwise')))
  await send(taskBody())
  await eventually('it is a task', async () => (await tasks()).length === 1)
  await send(Buffer.from('{'))
  await getDead()
})

test('a queue that is removed is made again', { skip }, async (t) => {
  const { queue, send, source, tasks, channel, lines } = await begin(t)
  const rabbit = await source({ url, queue })
  await eventually('connected', () => rabbit.connected)
  await channel.deleteQueue(queue)
  const connects = () => lines.filter((line) => line.includes('broker connected')).length
  await eventually('connected again', () => connects() === 2)
  await send(taskBody())
  await eventually('it is a task', async () => (await tasks()).length === 1)
})

test('the server starts without a broker, says so once and shows no password', async (t) => {
  const { source, lines } = await makeBench(t)
  const rabbit = await source({ url: 'amqp://guest:hunter2@127.0.0.1:1' })
  await eventually('it says so', () => lines.some((line) => line.includes('broker not connected')))
  await eventually('it tries again', () => lines.filter((line) => line.includes('broker not')).length > 1)
  assert.equal(lines.filter((line) => line.includes('"level":40')).length, 1)
  assert(!lines.join('').includes('hunter2'))
  assert(!rabbit.connected)
  await rabbit.stop()
  await rabbit.stop()
})

test('a wrong password is told without it', { skip }, async (t) => {
  const { source, lines } = await makeBench(t)
  const target = new URL(url)
  await source({ url: `amqp://guest@${target.host}`, passwordEnv: 'PW' }, { env: { PW: 'hunter2' } })
  await eventually('it says so', () => lines.some((line) => line.includes('broker not connected')))
  assert.match(lines.join(''), /ACCESS.REFUSED|refused/i)
  assert(!lines.join('').includes('hunter2'))
})
