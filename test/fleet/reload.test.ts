import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { chat, makeConfig, post, startGateway, upstream } from '../helpers/gateway.ts'
import { answerChat, chatEvent, doneEvent, FakeUpstream } from '../helpers/upstream.ts'

const ask = async (url: string, more = {}) => {
  const response = await post(url, '/v1/chat/completions', chat(more))
  const body = (await response.json()) as { choices?: { message: { content: string } }[] }
  return { status: response.status, text: body.choices?.[0]?.message.content }
}

test('an upstream that moves under the same name is there all the time, and its streams finish', async () => {
  const finish = Promise.withResolvers<void>()
  await using old = await FakeUpstream.start(async ({ json }, response, socket) => {
    if (json['stream'] !== true) return answerChat(['old'])({ json } as never, response, socket)
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(chatEvent('begun'))
    await finish.promise
    response.end(doneEvent)
    return undefined
  })
  await using moved = await FakeUpstream.start(answerChat(['moved']))
  await using gateway = await startGateway({ upstreams: [upstream('a', old.url)] })
  const stream = await post(gateway.url, '/v1/chat/completions', chat({ stream: true }))
  assert.equal((await ask(gateway.url)).text, 'old')

  await gateway.reload(await makeConfig({ upstreams: [upstream('a', moved.url)] }))
  // The old one still drains, and everything new goes to where it moved.
  for (let i = 0; i < 5; i += 1) assert.deepEqual(await ask(gateway.url), { status: 200, text: 'moved' })
  finish.resolve()
  assert.equal(await stream.text(), chatEvent('begun') + doneEvent)
})

test('models, weights, aliases and policies change in place', async () => {
  await using fake = await FakeUpstream.start()
  await using gateway = await startGateway({ upstreams: [upstream('a', fake.url)] })
  await gateway.reload(
    await makeConfig({
      upstreams: [upstream('a', fake.url, { models: { n: 'other' }, weight: 3, inFlightMax: 1 })],
      routing: { policy: 'round_robin', aliases: { nick: 'n' } },
    }),
  )
  assert.equal((await ask(gateway.url)).status, 404)
  assert.equal((await ask(gateway.url, { model: 'nick' })).status, 200)
  assert.equal(fake.requests.at(-1)?.json['model'], 'other')
})

test('a plan that cannot be carried out changes nothing', async () => {
  await using fake = await FakeUpstream.start()
  await using gateway = await startGateway({ upstreams: [upstream('a', fake.url)] })
  const bad = await makeConfig({
    upstreams: [upstream('a', fake.url, { models: { n: 'n' } })],
    models: [{ name: 'x', source: import.meta.filename }],
  })
  await assert.rejects(gateway.reload(bad), /GGUF/)
  assert.equal((await ask(gateway.url)).status, 200)
  assert.deepEqual(
    gateway.models.map(({ id }) => id),
    ['m'],
  )
})

test('what leaves the plan drains and is gone', async () => {
  await using a = await FakeUpstream.start()
  await using b = await FakeUpstream.start()
  await using gateway = await startGateway({ upstreams: [upstream('a', a.url), upstream('b', b.url)] })
  await gateway.reload(await makeConfig({ upstreams: [upstream('b', b.url)] }))
  for (let i = 0; i < 5; i += 1) assert.equal((await ask(gateway.url)).status, 200)
  assert.equal(a.requests.length, 0)
  // And it may come back under its name, even while its predecessor still drains.
  await gateway.reload(await makeConfig({ upstreams: [upstream('a', a.url)] }))
  assert.equal((await ask(gateway.url)).status, 200)
  assert.equal(a.requests.length, 1)
})
