import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import OpenAI from 'openai'
import { ask, countCalls, startCached, sure, type Tree } from '../helpers/cached-calls.ts'
import { startCachedGateway } from '../helpers/cached-gateway.ts'
import { chat, post, readMetric, upstream } from '../helpers/gateway.ts'
import { eventually } from '../helpers/server.ts'
import {
  answerChat,
  chatEvent,
  doneEvent,
  FakeUpstream,
  sendJson,
  usageEvent,
  wholeChat,
  type Behaviour,
} from '../helpers/upstream.ts'

test('a deterministic call is answered once by a model, and then from the cache', async () => {
  await using run = await startCached()
  const { fake, gateway } = run
  const first = await ask(gateway, sure())
  gateway.clock.advance(2_500)
  const second = await ask(gateway, sure(), { 'x-request-id': 'mine' })
  assert.deepEqual([first.cache, first.age, second.cache, second.age], ['miss', null, 'hit', '2'])
  assert.equal(second.text, first.text)
  assert.equal(second.headers.get('content-type'), first.headers.get('content-type'))
  assert.equal(second.headers.get('content-length'), String(Buffer.byteLength(first.text)))
  assert.equal(second.headers.get('x-request-id'), 'mine')
  assert.equal(second.headers.get('x-autoglm-model'), 'm')
  assert.equal(fake.requests.length, 1)
  await eventually('both lines are written', () => gateway.lines.length === 2)
  assert.deepEqual(
    gateway.lines.map(({ cache, instance, attempts }) => [cache, instance, attempts]),
    [
      ['miss', 'a', 1],
      ['hit', 'a', 0],
    ],
  )
  const read = (series: string) => readMetric(gateway.url, series)
  assert.equal(await read('autoglm_cache_requests_total{result="hit"}'), 1)
  assert.equal(await read('autoglm_cache_requests_total{result="miss"}'), 1)
  assert.equal(await read('autoglm_tokens_total{model="m",kind="completion"}'), 3)
})

test('what counts as deterministic, and what as the same call', async () => {
  const bodies: [first: Tree, second: Tree, isHit: boolean, why: string][] = [
    [sure(), sure({ user: 'b', metadata: { a: '1' }, store: false }), true, 'who asks changes nothing'],
    [sure({ a: { x: 1, y: [2] } }), { ...sure(), a: { y: [2], x: 1 } }, true, 'order of keys'],
    [sure({ temperature: -0 }), sure({ temperature: 0 }), true, 'zero is zero'],
    [sure({ model: 'alias' }), sure(), true, 'an alias is its model'],
    [chat({ seed: 7 }), chat({ seed: 7 }), true, 'a seed'],
    [chat({ seed: null }), chat({ seed: null }), false, 'no seed'],
    [chat({ seed: 7 }), chat({ seed: 8 }), false, 'another seed'],
    [chat(), chat(), false, 'not deterministic'],
    [sure({ n: 1 }), sure({ n: 2 }), false, 'another field'],
    [sure({ a: [1, 2] }), sure({ a: [2, 1] }), false, 'order of items'],
    [sure({ a: '1' }), sure({ a: 1 }), false, 'type'],
    [sure({ a: { metadata: 1 } }), sure({ a: { metadata: 2 } }), false, 'deeper fields count'],
    [sure({ a: [] }), sure({ a: {} }), false, 'list and object'],
  ]
  for (const [first, second, isHit, why] of bodies) {
    await using run = await startCached(countCalls(), { routing: { aliases: { alias: 'm' } } })
    await ask(run.gateway, first)
    assert.equal((await ask(run.gateway, second)).cache === 'hit', isHit, why)
    assert.equal(run.fake.requests.length, isHit ? 1 : 2, why)
  }
})

test('numbers that are not exact keep a call out of the cache', async () => {
  await using run = await startCached()
  const body = (seed: string) => JSON.stringify(chat()).replace('{', `{"seed":${seed},`)
  for (const seed of ['9007199254740993', '1e999', '-12345678901234567890']) {
    assert.equal((await ask(run.gateway, body(seed))).cache, 'bypass', seed)
    assert.equal((await ask(run.gateway, body(seed))).cache, 'bypass', seed)
  }
})

test('embeddings are kept without being asked to, completions by their own route', async () => {
  await using run = await startCached((_request, response) =>
    sendJson(response, 200, { object: 'list', data: [] }),
  )
  const twice = async (path: string, body: Tree) => {
    await (await post(run.gateway.url, path, body)).text()
    return (await post(run.gateway.url, path, body)).headers.get('x-autoglm-cache')
  }
  assert.equal(await twice('/v1/embeddings', { model: 'm', input: 'x' }), 'hit')
  assert.equal(await twice('/v1/completions', { model: 'm', prompt: 'x', temperature: 0 }), 'hit')
  assert.equal(await twice('/v1/completions', { model: 'm', prompt: 'x' }), 'bypass')
  assert.equal(run.fake.requests.length, 4)
})

test('Cache-Control: no-store, no-cache and max-age', async () => {
  await using run = await startCached()
  const { gateway } = run
  const control = async (value: string, body: unknown = sure()) => {
    const { cache, call } = await ask(gateway, body, { 'cache-control': value })
    return `${cache} ${call}`
  }
  assert.equal(await control('no-store'), 'bypass 1')
  assert.equal(await control('max-age=60'), 'miss 2', 'no-store was not written')
  assert.equal(await control('No-Store, max-age=60'), 'bypass 3', 'no-store does not read')
  assert.equal(await control('no-cache'), 'miss 4', 'no-cache does not read')
  assert.equal(await control(''), 'hit 4', 'but writes')
  gateway.clock.advance(10_000)
  assert.equal(await control('max-age=10'), 'hit 4')
  assert.equal(await control('max-age=9'), 'miss 5')
  assert.equal(await control('max-age=0'), 'miss 6')
  assert.equal(await control('max-age=60', chat()), 'miss 7', 'asked for, though not deterministic')
  assert.equal(await control('max-age=60', chat()), 'hit 7')
  assert.equal(await control('', chat()), 'bypass 8', 'not asked for')
  assert.equal(await control('max-age=0', chat()), 'bypass 9')
})

test('an answer lives for as long as the settings say', async () => {
  const tree = { cache: { ttlMs: 5_000 } }
  await using run = await startCached(countCalls(), tree)
  const { gateway } = run
  await ask(gateway, sure())
  gateway.clock.advance(4_999)
  assert.equal((await ask(gateway, sure())).cache, 'hit')
  gateway.clock.advance(1)
  assert.equal((await ask(gateway, sure())).cache, 'miss')
  await gateway.reload({ upstreams: [upstream('a', run.fake.url)], cache: { enabled: false } })
  assert.equal((await ask(gateway, sure())).cache, 'bypass')
})

test('tenants are apart, and a tenant that is none is refused', async () => {
  await using run = await startCached()
  const { gateway } = run
  const as = async (tenant: string) => ask(gateway, sure(), { 'x-autoglm-tenant': tenant })
  assert.deepEqual([(await as('a')).call, (await as('b')).call, (await as('a')).call], [1, 2, 1])
  assert.equal((await as('b')).cache, 'hit')
  assert.equal((await as('a b')).status, 400)
})

test('a reload that changes where answers come from serves no old ones', async () => {
  await using run = await startCached()
  await using other = await FakeUpstream.start(answerChat(['call 100']))
  const { gateway, fake } = run
  assert.equal((await ask(gateway, sure())).call, 1)
  await gateway.reload({ upstreams: [upstream('a', other.url)] })
  await eventually('the old one is gone', () => gateway.registry.all.length === 1)
  assert.equal((await ask(gateway, sure())).call, 100)
  await gateway.reload({ upstreams: [upstream('a', other.url, { models: { m: 'another' } })] })
  const renamed = await ask(gateway, sure())
  assert.deepEqual([renamed.cache, renamed.call], ['miss', 100])
  await gateway.reload({ upstreams: [upstream('a', fake.url, { weight: 3 })] })
  await eventually('the old one is gone', () => gateway.registry.all.length === 1)
  const back = await ask(gateway, sure())
  assert.deepEqual([back.cache, back.call], ['hit', 1], 'a weight changes no answer')
})

test('a stream is given again as a stream, with the usage for those who asked', async () => {
  await using run = await startCached(answerChat())
  const { gateway } = run
  const events = chatEvent('Hel') + chatEvent('lo') + chatEvent('.')
  const shown = sure({ stream: true, stream_options: { include_usage: true } })
  const first = await ask(gateway, sure({ stream: true }))
  const second = await ask(gateway, shown)
  const third = await ask(gateway, sure({ stream: true }))
  assert.equal(first.text, events + doneEvent)
  assert.equal(second.text, events + usageEvent + doneEvent)
  assert.equal(third.text, first.text)
  assert.deepEqual([first.cache, second.cache, third.cache], ['miss', 'hit', 'hit'])
  assert.match(String(third.headers.get('content-type')), /^text\/event-stream/)
  assert.equal(third.headers.get('x-accel-buffering'), 'no')
  assert.equal((await ask(gateway, sure())).cache, 'miss', 'the whole form is another answer')
  assert.equal(
    (await ask(gateway, sure({ stream: true, stream_options: { x: 1 } }))).cache,
    'miss',
    'other options of a stream change its events',
  )
})

test('a long stream comes again byte for byte, whatever its events are cut into', async () => {
  const words = Array.from({ length: 500 }, (_, at) => `${at}:${'w'.repeat((at * 37) % 900)}`)
  const long = 'x'.repeat(70_000)
  await using run = await startCached(answerChat([...words, long, ...words]))
  const first = await ask(run.gateway, sure({ stream: true }))
  const second = await ask(run.gateway, sure({ stream: true }))
  assert.ok(first.text.length > 500_000)
  assert.equal(second.cache, 'hit')
  assert.ok(second.text === first.text)
})

test('the openai package gets the same from the cache, whole and as a stream', async () => {
  await using run = await startCached(answerChat())
  const client = new OpenAI({ baseURL: `${run.gateway.url}/v1`, apiKey: 'none', maxRetries: 0 })
  const request = { model: 'm', messages: [{ role: 'user' as const, content: 'Hi' }], temperature: 0 }
  for (const expected of ['miss', 'hit']) {
    const { data, response } = await client.chat.completions.create(request).withResponse()
    assert.equal(response.headers.get('x-autoglm-cache'), expected)
    assert.equal(data.choices[0]?.message.content, 'Hello.')
    let text = ''
    for await (const part of await client.chat.completions.create({ ...request, stream: true })) {
      text += part.choices[0]?.delta.content ?? ''
    }
    assert.equal(text, 'Hello.')
  }
  assert.equal(run.fake.requests.length, 2)
})

test('streams that break off, tell of an error or come from a fallback are not kept', async () => {
  const stream = (...events: string[]): Behaviour => {
    return (_request, response, socket) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write(events.join(''), () => events.at(-1) === doneEvent || socket.destroy())
      if (events.at(-1) === doneEvent) response.end()
    }
  }
  const error = `data: {"error":{"message":"out of memory"}}\n\n`
  const behaviours: [string, Behaviour, Tree][] = [
    ['broken', stream(chatEvent('a')), { stream: true }],
    ['error event', stream(chatEvent('a'), error, doneEvent), { stream: true }],
    ['named error', stream(chatEvent('a'), 'event: error\ndata: oops\n\n', doneEvent), { stream: true }],
    ['error inside', (_request, response) => sendJson(response, 200, { ...wholeChat(), error: 'x' }), {}],
  ]
  for (const [name, behave, more] of behaviours) {
    await using run = await startCached(behave)
    await ask(run.gateway, sure(more))
    assert.equal((await ask(run.gateway, sure(more))).cache, 'miss', name)
    assert.equal(run.gateway.store.puts + run.gateway.cache.memoryEntries, 0, name)
  }
  await using main = await FakeUpstream.start((_request, response) => sendJson(response, 500, {}))
  await using other = await FakeUpstream.start(answerChat(['from the fallback']))
  await using gateway = await startCachedGateway({
    upstreams: [upstream('a', main.url), upstream('b', other.url, { models: { spare: 'spare' } })],
    routing: { fallbacks: { m: ['spare'] } },
  })
  assert.equal((await ask(gateway, sure())).headers.get('x-autoglm-model'), 'spare')
  assert.equal((await ask(gateway, sure())).cache, 'miss')
})

test('what was kept outlives the process, and a storage that fails fails nobody', async () => {
  await using fake = await FakeUpstream.start(countCalls())
  const tree = { upstreams: [upstream('a', fake.url)] }
  const before = await startCachedGateway(tree)
  await ask(before, sure({ stream: true }))
  const first = await ask(before, sure())
  await before[Symbol.asyncDispose]()
  const { store, clock } = before
  clock.advance(7_000)
  await using after = await startCachedGateway(tree, { store, clock })
  const again = await ask(after, sure())
  assert.deepEqual([again.cache, again.age, again.text], ['hit', '7', first.text])
  assert.equal((await ask(after, sure({ stream: true }))).cache, 'hit')
  assert.equal(store.reads, 4, 'each of the four was looked for once, the rest was in memory')
  await ask(after, sure())
  assert.equal(store.reads, 4)
  store.fault = () => Promise.reject(new Error('the disk is gone'))
  assert.equal((await ask(after, sure({ n: 2 }))).cache, 'miss')
  assert.equal((await ask(after, sure({ n: 2 }))).cache, 'hit')
  assert.equal(fake.requests.length, 3)
})

test('a call without a cache says so', async () => {
  await using run = await startCached()
  const { cache, age } = await ask(run.gateway, chat())
  assert.deepEqual([cache, age], ['bypass', null])
  assert.equal(run.gateway.store.reads, 0)
})
