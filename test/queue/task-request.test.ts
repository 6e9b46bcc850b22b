import { strict as assert } from 'node:assert'
import test from 'node:test'
import fc from 'fast-check'
import { ApiError } from '../../src/core/errors.ts'
import { parseTaskRequest } from '../../src/queue/task-request.ts'
import { chatTask } from '../helpers/task-spec.ts'

const nowMs = Date.UTC(2026, 0, 1)
const from = { tenant: 'acme', idempotencyKey: null, nowMs }
const call = { endpoint: '/v1/completions', body: { model: 'm', prompt: 'Hi' } } as const
const parse = (more: object = {}, origin: object = {}) =>
  parseTaskRequest({ ...call, ...more }, { ...from, ...origin })

test('a plain call takes the defaults', () => {
  assert.deepEqual(parse(), chatTask({ tenant: 'acme', work: call }))
})

test('every field is read', () => {
  const spec = parse(
    {
      priority: 'high',
      run_at: nowMs / 1000 + 60,
      deadline: '2026-01-01T02:00:00+01:00',
      max_attempts: 3,
      metadata: { run: '7' },
      webhook: { url: 'https://example.com/hook' },
    },
    { idempotencyKey: 'k' },
  )
  assert.equal(spec.band, 25)
  assert.equal(spec.runAtMs, nowMs + 60_000)
  assert.equal(spec.deadlineMs, Date.UTC(2026, 0, 1, 1))
  assert.equal(spec.attemptsMax, 3)
  assert.deepEqual({ ...spec.metadata }, { run: '7' })
  assert.deepEqual(spec.webhook, { url: 'https://example.com/hook' })
  assert.equal(spec.idempotencyKey, 'k')
})

test('null is as good as left out', () => {
  const nulls = { steps: null, priority: null, run_at: null, deadline: null, max_attempts: null, metadata: null, webhook: null } // prettier-ignore
  assert.deepEqual(parse(nulls), parse())
})

test('steps make a sequence', () => {
  const steps = [
    { name: 'draft', ...call },
    { name: 'polish', ...call },
  ]
  assert.deepEqual(parseTaskRequest({ steps }, from).work, { endpoint: 'sequence', steps })
})

const step = { name: 'a', ...call }
const refused: [string, Record<string, unknown>, string][] = [
  ['no endpoint', { body: {} }, 'endpoint'],
  ['an endpoint that is none', { ...call, endpoint: '/v1/tasks' }, 'endpoint'],
  ['a sequence by name', { ...call, endpoint: 'sequence' }, 'endpoint'],
  ['an endpoint of another kind', { ...call, endpoint: ['/v1/completions'] }, 'endpoint'],
  ['no body', { endpoint: '/v1/completions' }, 'body'],
  ['a body that is text', { ...call, body: '{}' }, 'body'],
  ['a body that is an array', { ...call, body: [] }, 'body'],
  ['an unknown field', { ...call, dead_line: 1 }, 'dead_line'],
  ['a field of the prototype', JSON.parse('{"__proto__":1,"endpoint":"/v1/completions","body":{}}') as Record<string, unknown>, '__proto__'],
  ['steps beside a call', { ...call, steps: [step] }, 'endpoint'],
  ['no step', { steps: [] }, 'steps'],
  ['steps that are an object', { steps: {} }, 'steps'],
  ['too many steps', { steps: Array.from({ length: 65 }, (_, at) => ({ ...step, name: `s${at}` })) }, 'steps'],
  ['a step without a name', { steps: [call] }, 'steps[0].name'],
  ['a step whose name holds a dot', { steps: [{ ...step, name: 'a.b' }] }, 'steps[0].name'],
  ['two steps of one name', { steps: [step, step] }, 'steps[1].name'],
  ['a step that is a sequence', { steps: [{ ...step, endpoint: 'sequence' }] }, 'steps[0].endpoint'],
  ['an unknown field of a step', { steps: [{ ...step, priority: 1 }] }, 'steps[0].priority'],
  ['a step that is null', { steps: [step, null] }, 'steps[1]'],
  ['a priority out of range', { ...call, priority: 101 }, 'priority'],
  ['a priority of the prototype', { ...call, priority: 'constructor' }, 'priority'],
  ['a run_at in milliseconds', { ...call, run_at: nowMs }, 'run_at'],
  ['a run_at without a zone', { ...call, run_at: '2026-01-01T00:00:00' }, 'run_at'],
  ['a run_at on the 30th of February', { ...call, run_at: '2026-02-30T00:00:00Z' }, 'run_at'],
  ['a run_at at hour 25', { ...call, run_at: '2026-02-03T25:00:00Z' }, 'run_at'],
  ['a run_at in words', { ...call, run_at: 'tomorrow' }, 'run_at'],
  ['a run_at that is true', { ...call, run_at: true }, 'run_at'],
  ['a deadline now', { ...call, deadline: nowMs / 1000 }, 'deadline'],
  ['a deadline at run_at', { ...call, run_at: nowMs / 1000 + 9, deadline: nowMs / 1000 + 9 }, 'deadline'],
  ['no attempt', { ...call, max_attempts: 0 }, 'max_attempts'],
  ['half an attempt', { ...call, max_attempts: 1.5 }, 'max_attempts'],
  ['too many attempts', { ...call, max_attempts: 101 }, 'max_attempts'],
  ['metadata that is an array', { ...call, metadata: [] }, 'metadata'],
  ['metadata of numbers', { ...call, metadata: { a: 1 } }, 'metadata.a'],
  ['too much metadata', { ...call, metadata: Object.fromEntries(Array.from({ length: 17 }, (_, at) => [at, ''])) }, 'metadata'],
  ['a long key', { ...call, metadata: { ['k'.repeat(65)]: '' } }, 'metadata'],
  ['an empty key', { ...call, metadata: { '': '' } }, 'metadata'],
  ['a long value', { ...call, metadata: { a: 'v'.repeat(513) } }, 'metadata.a'],
  ['a webhook that is text', { ...call, webhook: 'https://example.com' }, 'webhook'],
  ['a webhook without a URL', { ...call, webhook: {} }, 'webhook.url'],
  ['a webhook with more', { ...call, webhook: { url: 'https://e.com', secret: 's' } }, 'webhook.secret'],
  ['a webhook with a long URL', { ...call, webhook: { url: `https://e.com/${'a'.repeat(2048)}` } }, 'webhook.url'],
] // prettier-ignore

for (const [what, body, param] of refused) {
  test(`${what} is refused, and ${param} named`, () => {
    assert.throws(
      () => parseTaskRequest(body, from),
      (error) =>
        error instanceof ApiError &&
        error.code === 'invalid_request' &&
        error.param === param &&
        error.message.includes(param),
    )
  })
}

test('an idempotency key has a length', () => {
  for (const idempotencyKey of ['', 'k'.repeat(256)]) {
    assert.throws(() => parse({}, { idempotencyKey }), { code: 'invalid_request', param: 'idempotency_key' })
  }
  assert.equal(parse({}, { idempotencyKey: 'k'.repeat(255) }).idempotencyKey?.length, 255)
})

test('metadata keeps a key that names the prototype', () => {
  const metadata = JSON.parse('{"__proto__":"x"}') as unknown
  assert.equal(Object.getOwnPropertyDescriptor(parse({ metadata }).metadata, '__proto__')?.value, 'x')
})

test('whatever the fields hold, the outcome is a spec or invalid_request', () => {
  const names = ['endpoint', 'body', 'steps', 'priority', 'run_at', 'deadline', 'max_attempts', 'metadata', 'webhook'] // prettier-ignore
  const fields = fc.dictionary(fc.constantFrom(...names), fc.oneof(fc.jsonValue(), fc.constantFrom('/v1/completions', 'high', '2026-02-01T00:00:00Z', 1_800_000_000))) // prettier-ignore
  fc.assert(
    fc.property(fields, (body) => {
      try {
        const spec = parseTaskRequest({ ...body }, from)
        assert(spec.deadlineMs === null || spec.deadlineMs > nowMs)
        assert(Object.values(spec.metadata).every((value) => typeof value === 'string'))
      } catch (error) {
        assert(error instanceof ApiError && error.code === 'invalid_request', String(error))
      }
    }),
    { numRuns: 2000 },
  )
})
