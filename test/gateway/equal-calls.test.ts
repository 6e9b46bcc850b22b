import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { ask, countCalls, startCached, sure } from '../helpers/cached-calls.ts'
import type { CachedGateway } from '../helpers/cached-gateway.ts'
import { post, readMetric } from '../helpers/gateway.ts'
import { eventually } from '../helpers/server.ts'
import { answerChat, chatEvent, doneEvent, sendJson, wholeChat, type Behaviour } from '../helpers/upstream.ts'

/** An upstream that answers when the test says so. */
function gated(answer: Behaviour = countCalls()) {
  const gates: (() => void)[] = []
  const behave: Behaviour = async (request, response, socket) => {
    await new Promise<void>((resolve) => void gates.push(resolve))
    return answer(request, response, socket)
  }
  return {
    behave,
    /** Resolves when a call waits for its answer. */
    reached: () => eventually('a call waits', () => gates.length > 0),
    waiting: () => gates.length,
    open: () => gates.splice(0).forEach((gate) => gate()),
  }
}

const waitFor = (gateway: CachedGateway, requests: number) =>
  eventually(`${requests} requests are in flight`, async () => {
    // The scrape itself is one of them.
    return (await readMetric(gateway.url, 'autoglm_requests_in_flight')) === requests + 1
  })

test('fifty equal calls at once make one call', async () => {
  for (const stream of [false, true]) {
    const gate = gated()
    await using run = await startCached(gate.behave)
    const asked = Array.from({ length: 50 }, () => ask(run.gateway, sure({ stream })))
    await waitFor(run.gateway, 50)
    await gate.reached()
    gate.open()
    const answers = await Promise.all(asked)
    assert.equal(run.fake.requests.length, 1)
    assert.equal(new Set(answers.map(({ text }) => text)).size, 1)
    assert.equal(answers.filter(({ cache }) => cache === 'miss').length, 1)
    assert.equal(answers.filter(({ cache, age }) => cache === 'hit' && age === '0').length, 49)
    assert.equal(new Set(answers.map(({ headers }) => headers.get('x-request-id'))).size, 50)
  }
})

test('a follower of a stream sees each event as it comes', async () => {
  const next = Promise.withResolvers<void>()
  await using run = await startCached(async (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(chatEvent('one'))
    await next.promise
    response.end(chatEvent('two') + doneEvent)
  })
  const open = () => post(run.gateway.url, '/v1/chat/completions', sure({ stream: true }))
  const leader = await open()
  const follower = await open()
  assert.equal(follower.headers.get('x-autoglm-cache'), 'hit')
  const reader = (follower.body as ReadableStream<Uint8Array>).getReader()
  assert.equal(Buffer.from((await reader.read()).value ?? []).toString(), chatEvent('one'))
  next.resolve()
  assert.equal(Buffer.from((await reader.read()).value ?? []).toString(), chatEvent('two') + doneEvent)
  assert.equal(await leader.text(), chatEvent('one') + chatEvent('two') + doneEvent)
  assert.equal(run.fake.requests.length, 1)
})

test('the leader hangs up: the followers get their answer, and it is kept', async () => {
  const gate = gated()
  await using run = await startCached(gate.behave)
  const { gateway, fake } = run
  const leaves = new AbortController()
  const leader = post(gateway.url, '/v1/chat/completions', sure(), { signal: leaves.signal })
  leader.catch(() => {})
  await gate.reached()
  const followers = [ask(gateway, sure()), ask(gateway, sure())]
  await waitFor(gateway, 3)
  leaves.abort()
  await assert.rejects(leader)
  await waitFor(gateway, 2)
  assert.equal(fake.abandoned, 0)
  gate.open()
  for (const { status, call, cache } of await Promise.all(followers))
    assert.deepEqual([status, call, cache], [200, 1, 'hit'])
  assert.equal((await ask(gateway, sure())).cache, 'hit')
  assert.equal(fake.requests.length, 1)
})

test('all hang up: the instance is free at once, and the next call is a new one', async () => {
  const gate = gated()
  await using run = await startCached(gate.behave)
  const { gateway, fake } = run
  const leaves = new AbortController()
  const asked = [1, 2, 3].map(() =>
    post(gateway.url, '/v1/chat/completions', sure(), { signal: leaves.signal }),
  )
  for (const call of asked) call.catch(() => {})
  await waitFor(gateway, 3)
  assert.equal(fake.requests.length, 1)
  leaves.abort()
  await fake.until(({ abandoned }) => abandoned === 1)
  const next = ask(gateway, sure())
  await fake.until(({ requests }) => requests.length === 2)
  await eventually('both calls wait', () => gate.waiting() === 2)
  gate.open()
  assert.equal((await next).status, 200)
  assert.equal(gateway.store.puts, 1, 'an aborted answer is not kept')
})

test('errors and broken answers are not kept; those who waited share the error and do not stampede', async () => {
  const failing: [string, Behaviour, number][] = [
    ['500', (_request, response) => sendJson(response, 500, { error: { message: 'no' } }), 502],
    ['429', (_request, response) => sendJson(response, 429, { error: { message: 'no' } }), 429],
    ['400', (_request, response) => sendJson(response, 400, { error: { message: 'no' } }), 400],
  ]
  for (const [name, behave, status] of failing) {
    const gate = gated(behave)
    await using run = await startCached(gate.behave, { routing: { retryRatio: 0, retryReserve: 0 } })
    const asked = [1, 2, 3].map(() => ask(run.gateway, sure()))
    await waitFor(run.gateway, 3)
    await gate.reached()
    gate.open()
    for (const answer of await Promise.all(asked)) assert.equal(answer.status, status, name)
    assert.equal(run.fake.requests.length, 1, name)
    assert.equal(run.gateway.store.puts + run.gateway.cache.memoryEntries, 0, name)
  }
})

test('a complaint about what the others do not have in their call is not theirs', async () => {
  const gate = gated(({ json }, response) =>
    json['user'] === 'bad'
      ? sendJson(response, 400, { error: { message: 'bad user' } })
      : sendJson(response, 200, wholeChat()),
  )
  await using run = await startCached(gate.behave)
  const bad = ask(run.gateway, sure({ user: 'bad' }))
  await gate.reached()
  const others = [ask(run.gateway, sure({ user: 'bad' })), ask(run.gateway, sure({ user: 'good' }))]
  await waitFor(run.gateway, 3)
  gate.open()
  await gate.reached()
  gate.open()
  const answers = await Promise.all([bad, ...others])
  assert.deepEqual(
    answers.map(({ status }) => status),
    [400, 400, 200],
  )
  assert.equal(answers[2]?.cache, 'miss')
})

test('an answer beyond the limit reaches everybody and is not kept', async () => {
  const content = 'x'.repeat(300)
  for (const stream of [false, true]) {
    const gate = gated(answerChat(Array.from({ length: 2_000 }, () => content)))
    await using run = await startCached(gate.behave, { cache: { entryBytesMax: 100_000 } })
    const asked = Array.from({ length: 5 }, () => ask(run.gateway, sure({ stream })))
    await waitFor(run.gateway, 5)
    await gate.reached()
    gate.open()
    const answers = await Promise.all(asked)
    assert.equal(run.fake.requests.length, 1)
    for (const { text } of answers) assert.equal(text.split(content).length, 2_001)
    assert.equal(run.gateway.store.puts + run.gateway.cache.memoryEntries, 0)
  }
})
