import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import OpenAI from 'openai'
import { metricReaches } from '../helpers/metric-reaches.ts'
import {
  answerChat,
  chatEvent,
  doneEvent,
  FakeUpstream,
  sendJson,
  usageEvent,
  wholeChat,
} from '../helpers/upstream.ts'
import { chat, post, startGateway, upstream } from '../helpers/gateway.ts'

test('a body reaches the instance byte for byte, unknown fields included', async () => {
  await using fake = await FakeUpstream.start()
  await using gateway = await startGateway({ upstreams: [upstream('a', fake.url)] })
  const body =
    '{ "model":"m",  "seed": 12345678901234567890, "x_vendor":{"deep":[1.0e2]}, "messages":[{"role":"user","content":"\\u00e9"}] }'
  const response = await post(gateway.url, '/v1/chat/completions', body)
  assert.equal(response.status, 200)
  assert.equal(fake.requests[0]?.body.toString(), body)
  assert.deepEqual(await response.json(), wholeChat())
})

test('a whole answer reaches the client byte for byte, short or long, in any script', async () => {
  let answer = Buffer.alloc(0)
  await using fake = await FakeUpstream.start((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' }).end(answer)
  })
  await using gateway = await startGateway({ upstreams: [upstream('a', fake.url)] })
  for (const times of [1, 100, 1_000, 100_000]) {
    const content = 'é Ж 漢字 🦜 \u0080\u00ff'.repeat(times)
    answer = Buffer.from(JSON.stringify(wholeChat(content), null, 1))
    const response = await post(gateway.url, '/v1/chat/completions', chat())
    if (times < 100_000) assert.equal(response.headers.get('content-length'), String(answer.length))
    assert.ok(Buffer.from(await response.arrayBuffer()).equals(answer), `${answer.length} bytes`)
  }
})

test('a stream passes unchanged, and its usage is read but shown only to who asked', async () => {
  await using fake = await FakeUpstream.start()
  await using gateway = await startGateway({ upstreams: [upstream('a', fake.url)] })
  const plain = await (await post(gateway.url, '/v1/chat/completions', chat({ stream: true }))).text()
  assert.equal(plain, chatEvent('Hel') + chatEvent('lo') + chatEvent('.') + doneEvent)
  const asked = chat({ stream: true, stream_options: { include_usage: true } })
  const shown = await (await post(gateway.url, '/v1/chat/completions', asked)).text()
  assert.ok(shown.includes(usageEvent))
  await metricReaches(gateway.url, 'autoglm_tokens_total{model="m",kind="prompt"}', 10)
  await metricReaches(gateway.url, 'autoglm_tokens_total{model="m",kind="completion"}', 6)
})

test('the client sees each event as it comes, before the next one is written', async () => {
  const next = Promise.withResolvers<void>()
  await using fake = await FakeUpstream.start(async (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(chatEvent('one'))
    await next.promise
    response.end(chatEvent('two') + doneEvent)
  })
  await using gateway = await startGateway({ upstreams: [upstream('a', fake.url)] })
  const response = await post(gateway.url, '/v1/chat/completions', chat({ stream: true }))
  const reader = (response.body as ReadableStream<Uint8Array>).getReader()
  const first = await reader.read()
  assert.equal(Buffer.from(first.value ?? []).toString(), chatEvent('one'))
  next.resolve()
  let rest = ''
  for (let part = await reader.read(); !part.done; part = await reader.read())
    rest += Buffer.from(part.value).toString()
  assert.equal(rest, chatEvent('two') + doneEvent)
})

test('a stream whose lines end in CR alone passes, event by event, to its end mark', async () => {
  const toCr = (text: string) => text.replaceAll('\n', '\r')
  const next = Promise.withResolvers<void>()
  await using fake = await FakeUpstream.start(async (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(toCr(chatEvent('one')))
    await next.promise
    // It says that it is done, and does not hang up.
    response.write(toCr(chatEvent('two') + usageEvent + doneEvent))
  })
  await using gateway = await startGateway({ upstreams: [upstream('a', fake.url)] })
  const response = await post(gateway.url, '/v1/chat/completions', chat({ stream: true }))
  const reader = (response.body as ReadableStream<Uint8Array>).getReader()
  const first = await reader.read()
  assert.equal(Buffer.from(first.value ?? []).toString(), toCr(chatEvent('one')))
  next.resolve()
  const rest: Uint8Array[] = []
  for (let part = await reader.read(); !part.done; part = await reader.read()) rest.push(part.value)
  assert.equal(Buffer.concat(rest).toString(), toCr(chatEvent('two') + doneEvent))
  await metricReaches(gateway.url, 'autoglm_tokens_total{model="m",kind="completion"}', 3)
})

test('events cut anywhere by the network arrive whole', async () => {
  const text =
    chatEvent('häl\u{1F600}lo') + usageEvent.replaceAll('\n\n', '\r\n\r\n') + chatEvent('x') + doneEvent
  const bytes = Buffer.from(text)
  let size = 1
  await using fake = await FakeUpstream.start(async (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    for (let at = 0; at < bytes.length; at += size) {
      response.write(bytes.subarray(at, at + size))
      await new Promise(setImmediate)
    }
    response.end()
  })
  await using gateway = await startGateway({ upstreams: [upstream('a', fake.url)] })
  const body = chat({ stream: true, stream_options: { include_usage: true } })
  for (; size < bytes.length; size += 7) {
    const received = Buffer.from(await (await post(gateway.url, '/v1/chat/completions', body)).arrayBuffer())
    assert.equal(received.toString(), text, `cut into ${size} bytes`)
  }
})

test('the name of a model is the only thing that changes on the way to an upstream that knows it by another', async () => {
  await using fake = await FakeUpstream.start()
  await using gateway = await startGateway({
    upstreams: [upstream('a', fake.url, { models: { m: 'org/real-name' } })],
    routing: { aliases: { nick: 'm' } },
  })
  const body = '{"messages":[{"role":"user","content":"\\"model\\":\\"m\\""}], "model" : "nick","n":1}'
  assert.equal((await post(gateway.url, '/v1/chat/completions', body)).status, 200)
  assert.equal(fake.requests[0]?.body.toString(), body.replace('"nick"', '"org/real-name"'))
})

test('a client that hangs up frees the instance at once, streaming or not', async () => {
  await using fake = await FakeUpstream.start(({ json }, response) => {
    if (json['stream'] !== true) return
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(chatEvent('first'))
  })
  await using gateway = await startGateway({ upstreams: [upstream('a', fake.url)] })
  for (const stream of [true, false]) {
    for (const [path, body] of [
      ['/v1/chat/completions', chat({ stream })],
      ['/v1/completions', { model: 'm', prompt: 'x', stream }],
      ...(stream ? [] : [['/v1/embeddings', { model: 'm', input: 'x' }] as const]),
    ] as const) {
      const abort = new AbortController()
      const abandoned = fake.abandoned
      const request = post(gateway.url, path, body, { signal: abort.signal })
      await fake.until(({ active }) => active === 1)
      if (stream) await (await request).body?.getReader().read()
      abort.abort()
      await request.catch(() => {})
      await fake.until((now) => now.abandoned === abandoned + 1)
    }
  }
  await metricReaches(gateway.url, 'autoglm_instance_in_flight{instance="a"}', 0)
})

test('a client that reads slowly stops the bytes of the instance', async () => {
  const big = chatEvent('x'.repeat(64 * 1024))
  let written = 0
  const stuck = Promise.withResolvers<void>()
  await using fake = await FakeUpstream.start(async (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    while (!response.destroyed && written < 512) {
      written += 1
      if (response.write(big)) {
        await new Promise(setImmediate)
      } else {
        // Nobody takes the bytes any more: that is what the test waits for.
        const drained = new Promise((resolve) => response.once('drain', resolve))
        const idle = new Promise((resolve) => setTimeout(resolve, 300, 'idle'))
        if ((await Promise.race([drained, idle])) === 'idle') break
      }
    }
    stuck.resolve()
  })
  await using gateway = await startGateway({ upstreams: [upstream('a', fake.url)] })
  const abort = new AbortController()
  const response = await post(gateway.url, '/v1/chat/completions', chat({ stream: true }), {
    signal: abort.signal,
  })
  assert.equal(response.status, 200)
  await stuck.promise
  assert.ok(written < 400, `${written} chunks of 64 KiB went somewhere although nobody read them`)
  abort.abort()
  await fake.until(({ active }) => active === 0)
})

test('the openai package is served unchanged: chat, stream, completions, embeddings, models, errors', async () => {
  await using fake = await FakeUpstream.start((request, response, socket) => {
    if (request.path === '/v1/embeddings') {
      const data = [{ object: 'embedding', index: 0, embedding: [0.5, 1] }]
      return sendJson(response, 200, {
        object: 'list',
        data,
        model: 'm',
        usage: { prompt_tokens: 1, total_tokens: 1 },
      })
    }
    if (request.path === '/v1/completions') {
      return sendJson(response, 200, {
        id: 'x',
        object: 'text_completion',
        choices: [{ text: 'abc', index: 0 }],
      })
    }
    return answerChat()(request, response, socket)
  })
  await using gateway = await startGateway({ upstreams: [upstream('a', fake.url)] })
  const client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: 'secret-of-the-client', maxRetries: 0 })
  const messages = [{ role: 'user' as const, content: 'Hi' }]

  const whole = await client.chat.completions.create({ model: 'm', messages })
  assert.equal(whole.choices[0]?.message.content, 'Hello.')
  let text = ''
  for await (const chunk of await client.chat.completions.create({ model: 'm', messages, stream: true })) {
    text += chunk.choices[0]?.delta.content ?? ''
  }
  assert.equal(text, 'Hello.')
  assert.equal((await client.completions.create({ model: 'm', prompt: 'a' })).choices[0]?.text, 'abc')
  const embedded = await client.embeddings.create({ model: 'm', input: 'a', encoding_format: 'float' })
  assert.deepEqual(embedded.data[0]?.embedding, [0.5, 1])
  assert.deepEqual(
    (await client.models.list()).data.map(({ id }) => id),
    ['m'],
  )
  assert.equal((await client.models.retrieve('m')).id, 'm')
  await assert.rejects(client.models.retrieve('org/none'), OpenAI.NotFoundError)
  await assert.rejects(client.chat.completions.create({ model: 'none', messages }), OpenAI.NotFoundError)
  await assert.rejects(client.chat.completions.create({ model: 'm', messages: [] }), OpenAI.BadRequestError)
  // The client's own key ends at the gateway.
  for (const { headers } of fake.requests) assert.equal(headers.authorization, undefined)
})

test('the key of an upstream comes from the environment and goes to that upstream alone', async () => {
  await using fake = await FakeUpstream.start()
  const tree = { upstreams: [upstream('a', fake.url, { apiKeyEnv: 'MY_KEY' })] }
  await using gateway = await startGateway(tree, { MY_KEY: 'k-123' })
  await post(gateway.url, '/v1/chat/completions', chat())
  assert.equal(fake.requests[0]?.headers.authorization, 'Bearer k-123')
})

test('x-request-id is taken over when it is sane, made when it is not, and sent along', async () => {
  await using fake = await FakeUpstream.start()
  await using gateway = await startGateway({ upstreams: [upstream('a', fake.url)] })
  const send = (id: string) =>
    post(gateway.url, '/v1/chat/completions', chat(), { headers: { 'x-request-id': id } })
  assert.equal((await send('my-id.1')).headers.get('x-request-id'), 'my-id.1')
  assert.equal(fake.requests[0]?.headers['x-request-id'], 'my-id.1')
  const made = (await send('two words')).headers.get('x-request-id') ?? ''
  assert.match(made, /^req_/)
  assert.equal(fake.requests[1]?.headers['x-request-id'], made)
})
