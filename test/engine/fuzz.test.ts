import { strict as assert } from 'node:assert'
import { request } from 'node:http'
import { after, before, test } from 'node:test'
import fc from 'fast-check'
import { parameters } from '../../engine/parameters.ts'
import { startEngine, type StartedEngine } from '../helpers/engine.ts'

let engine: StartedEngine
before(async () => {
  engine = await startEngine({
    parallel: 4,
    waitingMax: 200,
    contextTokens: 256,
    flags: ['--body-bytes-max', '20000'],
  })
})
after(() => engine.stop())

async function send(path: string, body: string, headers: Record<string, string> = {}) {
  const response = await fetch(`${engine.url}${path}`, {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', ...headers },
  })
  return { status: response.status, text: await response.text() }
}

function codeOf(text: string): unknown {
  return (JSON.parse(text) as { error: { code: unknown } }).error.code
}

const routes = ['/v1/completions', '/v1/chat/completions', '/v1/embeddings']

test('what is no JSON object, too deep, too large or of another type is refused as such', async () => {
  for (const route of routes) {
    for (const body of ['', '{', 'null', '[]', '"a"', '{"a":', '\u{0}', '{"model":"tiny"}}']) {
      const { status, text } = await send(route, body)
      assert.deepEqual([status, codeOf(text)], [400, 'invalid_json'], body)
    }
    const deep = await send(route, `{"a":${'['.repeat(5000)}${']'.repeat(5000)}}`)
    assert.deepEqual([deep.status, codeOf(deep.text)], [400, 'invalid_json'])
    const large = await send(route, `{"a":"${'x'.repeat(30_000)}"}`)
    assert.deepEqual([large.status, codeOf(large.text)], [413, 'body_too_large'])
    const form = await send(route, 'a=b', { 'content-type': 'application/x-www-form-urlencoded' })
    assert.deepEqual([form.status, codeOf(form.text)], [415, 'unsupported_media_type'])
  }
})

test('a body without a length is cut off at the limit', async () => {
  const status = await new Promise<number>((resolve, reject) => {
    const sent = request(`${engine.url}/v1/completions`, { method: 'POST' }, (response) => {
      response.resume()
      resolve(response.statusCode ?? 0)
    }).on('error', reject)
    for (let i = 0; i < 30; i += 1) sent.write('x'.repeat(1000))
    sent.end()
  })
  assert.equal(status, 413)
})

test('routes and methods that are not there say so', async () => {
  const nowhere = await fetch(`${engine.url}/v1/nothing`)
  assert.equal(nowhere.status, 404)
  const wrong = await fetch(`${engine.url}/v1/completions`)
  assert.deepEqual([wrong.status, wrong.headers.get('allow')], [405, 'POST'])
  const proto = await fetch(`${engine.url}/__proto__`)
  assert.equal(proto.status, 404)
})

/** Fields with values of every kind: mostly wrong, some right by chance. */
const anything = fc.oneof(
  fc.jsonValue({ maxDepth: 3 }),
  fc.constantFrom('', 'a', 0, 1, -1, 2 ** 40, 1e308, true, false, null, [], {}, [[]], [1], ['a'], { a: 1 }),
)
const names = [...Object.keys(parameters), 'input', 'encoding_format', 'dimensions']
const valid: Record<string, object> = {
  '/v1/completions': { prompt: 'Once', max_tokens: 2 },
  '/v1/chat/completions': { messages: [{ role: 'user', content: 'Hi' }], max_tokens: 2 },
  '/v1/embeddings': { input: 'Hi' },
}

for (const route of routes) {
  test(`no body of ${route} is a fault of the server`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.dictionary(fc.constantFrom(...names), anything, { maxKeys: 4 }), async (fields) => {
        const body = { model: 'tiny', ...valid[route], ...fields }
        const { status, text } = await send(route, JSON.stringify(body))
        assert.ok(status < 500, `${status} ${text} for ${JSON.stringify(body)}`)
      }),
      { numRuns: 150 },
    )
  })
}

test('no schema is a fault of the server', async () => {
  const keyword = fc.constantFrom(
    ...[
      'type',
      'properties',
      'items',
      'enum',
      'const',
      'anyOf',
      '$ref',
      'required',
      'minItems',
      'maxLength',
      '$defs',
    ],
  )
  const value = fc.oneof(
    fc.constantFrom(
      'string',
      'object',
      'array',
      'integer',
      '#',
      '#/$defs/a',
      0,
      3,
      [],
      {},
      ['a'],
      ['string', 'null'],
    ),
    fc.dictionary(fc.constantFrom('a', 'b'), fc.constantFrom({ type: 'string' }, { $ref: '#' }, {}, 7)),
    fc.array(fc.constantFrom({ type: 'null' }, { $ref: '#/$defs/a' }, { enum: [1, 'é"\\'] }), {
      maxLength: 3,
    }),
  )
  await fc.assert(
    fc.asyncProperty(fc.dictionary(keyword, value, { maxKeys: 4 }), async (schema) => {
      const body = {
        model: 'tiny',
        ...valid['/v1/chat/completions'],
        response_format: { type: 'json_schema', json_schema: { name: 'a', schema } },
      }
      const { status, text } = await send('/v1/chat/completions', JSON.stringify(body))
      assert.ok(status < 500, `${status} ${text} for ${JSON.stringify(schema)}`)
    }),
    { numRuns: 150 },
  )
})

test('after all that the engine still answers, and holds no sequence', async () => {
  const reply = await send('/v1/completions', JSON.stringify({ model: 'tiny', ...valid['/v1/completions'] }))
  assert.equal(reply.status, 200)
  const health = (await (await fetch(`${engine.url}/health`)).json()) as { slots: object }
  assert.deepEqual(health.slots, { idle: 4, processing: 0, waiting: 0 })
})
