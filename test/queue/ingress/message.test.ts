import { strict as assert } from 'node:assert'
import test from 'node:test'
import fc from 'fast-check'
import { ApiError } from '../../../src/core/errors.ts'
import { readMessage, type Incoming } from '../../../src/queue/ingress/message.ts'
import { readEnvelope } from '../../../src/queue/ingress/rabbitmq.ts'
import { readAddress, type IngressConfig } from '../../../src/queue/ingress/source.ts'
import { reconnectDelayMs } from '../../../src/queue/ingress/verdict.ts'

const rules = {
  bodyBytesMax: 4_096,
  jsonDepthMax: 8,
  webhooks: { secrets: [Buffer.alloc(24)], allowPrivate: false },
  nowMs: Date.UTC(2026, 0, 1),
}
const call = { endpoint: '/v1/completions', body: { model: 'm', prompt: 'Hi' } }

const read = (body: unknown, more: Partial<Incoming> = {}) =>
  readMessage(
    {
      body: Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)),
      tenant: undefined,
      priority: undefined,
      idempotencyKey: null,
      ...more,
    },
    rules,
  )

test('the envelope says what the message leaves out', () => {
  assert.equal(read(call).tenant, 'default')
  assert.equal(read(call).band, 50)
  assert.equal(read(call, { tenant: 'acme' }).tenant, 'acme')
  assert.equal(read(call, { priority: 'urgent' }).band, 0)
  assert.equal(read(call, { priority: '30' }).band, 30)
  assert.equal(read(call, { priority: 7 }).band, 7)
  assert.equal(read({ ...call, priority: 'low' }, { priority: 'urgent' }).band, 75)
  assert.equal(read(call, { idempotencyKey: 'k' }).idempotencyKey, 'k')
})

const refused: [string, () => unknown, string][] = [
  ['no JSON', () => read('hello'), 'invalid_json'],
  ['an array', () => read([call]), 'invalid_json'],
  ['nothing', () => read(''), 'invalid_json'],
  ['a body nested too deep', () => read(`${'{"a":'.repeat(9)}1${'}'.repeat(9)}`), 'invalid_json'],
  ['too many bytes', () => read(' '.repeat(4_097)), 'body_too_large'],
  ['a tenant that is none', () => read(call, { tenant: '../acme' }), 'invalid_request'],
  ['an empty tenant', () => read(call, { tenant: '' }), 'invalid_request'],
  ['a priority that is none', () => read(call, { priority: '101' }), 'invalid_request'],
  ['a webhook inside', () => read({ ...call, webhook: { url: 'https://169.254.169.254/' } }), 'invalid_request'],
  ['a long message id', () => read(call, { idempotencyKey: 'k'.repeat(256) }), 'invalid_request'],
] // prettier-ignore

for (const [what, run, code] of refused) {
  test(`${what} is refused`, () => assert.throws(run, { name: 'ApiError', code }))
}

test('whatever bytes come, they are a task or an error of the table', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      assert.throws(() => read('', { body: bytes }), ApiError)
    }),
  )
})

test('priorities of AMQP go from 0, the last, to 9, the first', () => {
  const band = (priority?: number) =>
    readEnvelope({ content: Buffer.of(), properties: { headers: {}, priority } as never }, 'q').priority
  assert.deepEqual([9, 8, 5, 4, 1, 0, 255].map(band), [0, 11, 44, 56, 89, 100, 0])
  assert.equal(band(), undefined)
})

test('a message without an id has no key: two equal ones may both be meant', () => {
  const envelope = (messageId?: string) =>
    readEnvelope({ content: Buffer.of(), properties: { headers: undefined, messageId } as never }, 'q')
  assert.equal(envelope().idempotencyKey, null)
  assert.equal(envelope('').idempotencyKey, null)
  assert.equal(envelope('7').idempotencyKey, 'amqp:q:7')
})

test('passwords come from the environment, and errors do not show them', () => {
  const config: IngressConfig = { name: 'in', url: 'amqp://me:fr%40m@host:1/v%2Fh', passwordEnv: '', queue: 'q', prefetch: 1, deliveriesMax: 1 } // prettier-ignore
  const plain = { protocol: 'amqp', host: 'host', port: 1, user: 'me', password: 'fr@m', path: 'v/h' }
  assert.deepEqual(readAddress(config, {}), plain)
  assert.equal(readAddress({ ...config, passwordEnv: 'P' }, { P: 's3cret' }).password, 's3cret')
  assert.throws(() => readAddress({ ...config, passwordEnv: 'P' }, {}), /passwordEnv names P/)
  assert.throws(
    () => readAddress({ ...config, url: 'amqp://me:%zz@host' }, {}),
    (error: Error) => error.name === 'SetupError' && !error.message.includes('%zz'),
  )
})

test('delays between connections grow to half a minute, and differ', () => {
  assert.deepEqual([1, 2, 3, 7, 8, 1_000].map((failures) => reconnectDelayMs(failures, 1)), [500, 1_000, 2_000, 30_000, 30_000, 30_000]) // prettier-ignore
  assert.equal(reconnectDelayMs(8, 0), 15_000)
})
