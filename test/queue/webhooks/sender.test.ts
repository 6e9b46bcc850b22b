import { strict as assert } from 'node:assert'
import test from 'node:test'
import OpenAI from 'openai'
import { eventually } from '../../helpers/server.ts'
import { FakeUpstream } from '../../helpers/upstream.ts'
import { FakeOutbox } from './fake-outbox.ts'
import { begin, hook, receive, rules, secret, secretText } from './sender-bench.ts'

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
