import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { readUsedTokens } from '../../src/gateway/used-tokens.ts'
import { chat, post, startGateway, upstream } from '../helpers/gateway.ts'
import { chatEvent, FakeUpstream } from '../helpers/upstream.ts'
import { makeRecord } from './usage/harness.ts'

const untold = {
  promptTokens: null,
  completionTokens: null,
  cachedTokens: null,
  promptEstimate: 50,
  events: 7,
}

const cases = [
  ['told', makeRecord(), { prompt: 100, cached: 40, completion: 10 }],
  ['told in part', makeRecord({ ...untold, promptTokens: 9 }), { prompt: 9, cached: 0, completion: 0 }],
  ['not told', makeRecord(untold), { prompt: 50, cached: 0, completion: 7 }],
  ['a cached answer', makeRecord({ cache: 'hit' }), null],
  ['nobody has answered', makeRecord({ ...untold, instance: null }), null],
] as const

for (const [name, record, used] of cases) {
  test(`tokens of a request: ${name}`, () => assert.deepEqual(readUsedTokens(record), used))
}

test('a stream that its client breaks off has used its prompt and the events that had come', async () => {
  await using model = await FakeUpstream.start((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(chatEvent('a') + chatEvent('b'))
  })
  const tenants = { default: { tokensPerMinute: 1_000 } }
  const limits = { dynamic: false }
  await using gateway = await startGateway({ upstreams: [upstream('u', model.url)], tenants, limits })
  const hangUp = new AbortController()
  const body = chat({ stream: true, max_tokens: 600 })
  const { signal } = hangUp
  const response = await post(gateway.url, '/v1/chat/completions', body, { signal })
  await response.body?.getReader().read()
  hangUp.abort()
  await model.until(({ abandoned }) => abandoned === 1)
  const next = await post(gateway.url, '/v1/chat/completions', chat({ max_tokens: 600, stream: true }))
  assert.equal(next.status, 200, 'the rest of the estimate was given back')
  const left = Number(next.headers.get('x-ratelimit-remaining-tokens'))
  assert.ok(left > 300 && left < 400, String(left))
  await next.body?.cancel()
})
