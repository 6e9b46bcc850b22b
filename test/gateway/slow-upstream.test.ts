import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { metricReaches } from '../helpers/metric-reaches.ts'
import { chat, post, readMetric, startGateway, upstream } from '../helpers/gateway.ts'
import { answerChat, FakeUpstream, sendJson, wholeChat } from '../helpers/upstream.ts'

test('a slow first byte is hedged: the second instance answers, and the first is cut off', async () => {
  await using slow = await FakeUpstream.start(() => {})
  await using fast = await FakeUpstream.start(async (...call) => {
    // The first attempt has arrived: only then can it be seen to be cut off.
    await slow.until(({ requests }) => requests.length === fast.requests.length)
    return answerChat()(...call)
  })
  await using gateway = await startGateway({
    upstreams: [upstream('slow', slow.url, { weight: 1000 }), upstream('fast', fast.url, { weight: 0.001 })],
    routing: { policy: 'weighted', hedgeAfterMs: 50 },
  })
  for (const stream of [false, true]) {
    const response = await post(gateway.url, '/v1/chat/completions', chat({ stream }))
    assert.equal(response.headers.get('x-autoglm-instance'), 'fast')
    if (stream)
      assert.match(await response.text(), /^data: .*\n\ndata: .*\n\ndata: .*\n\ndata: \[DONE\]\n\n$/)
    else assert.deepEqual(await response.json(), wholeChat())
  }
  await slow.until(({ active, abandoned }) => active === 0 && abandoned === 2)
  assert.equal(await readMetric(gateway.url, 'autoglm_hedges_total'), 2)
  assert.equal(await readMetric(gateway.url, 'autoglm_hedge_wins_total'), 2)
  assert.equal(await readMetric(gateway.url, 'autoglm_retries_total'), 0)
  for (const id of ['slow', 'fast']) {
    await metricReaches(gateway.url, `autoglm_instance_in_flight{instance="${id}"}`, 0)
  }
})

test('tasks are not hedged: nobody waits for their first byte', async () => {
  const answered = Promise.withResolvers<void>()
  await using slow = await FakeUpstream.start(async (request, response, socket) => {
    await answered.promise
    await answerChat()(request, response, socket)
  })
  await using idle = await FakeUpstream.start(async (...call) => {
    await slow.until(({ requests }) => requests.length === 2)
    return answerChat()(...call)
  })
  await using gateway = await startGateway({
    upstreams: [upstream('slow', slow.url, { weight: 1000 }), upstream('idle', idle.url, { weight: 0.001 })],
    routing: { policy: 'weighted', hedgeAfterMs: 1 },
  })
  await post(gateway.url, '/v1/tasks', { endpoint: '/v1/chat/completions', body: chat() })
  await slow.until(({ requests }) => requests.length === 1)
  // A live request that is hedged meanwhile shows that the task could have been.
  assert.equal((await post(gateway.url, '/v1/chat/completions', chat())).status, 200)
  assert.deepEqual([slow.requests.length, idle.requests.length], [2, 1])
  assert.equal(await readMetric(gateway.url, 'autoglm_hedges_total'), 1)
  answered.resolve()
  await slow.until(({ active }) => active === 0)
})

test('a model that fails all its calls is refused at once for a while, and metrics say so', async () => {
  await using broken = await FakeUpstream.start((_request, response) => sendJson(response, 500, {}))
  await using gateway = await startGateway({
    upstreams: [upstream('a', broken.url)],
    health: { breakerCallsMin: 3, breakerOpenMs: 60_000 },
  })
  for (let i = 0; i < 3; i += 1) {
    assert.equal((await post(gateway.url, '/v1/chat/completions', chat())).status, 502)
  }
  const refused = await post(gateway.url, '/v1/chat/completions', chat())
  const { error } = (await refused.json()) as { error: { code: string } }
  assert.deepEqual([refused.status, error.code], [503, 'circuit_open'])
  const wait = Number(refused.headers.get('retry-after'))
  assert.ok(wait >= 55 && wait <= 60, `Retry-After: ${wait}`)
  assert.equal(broken.requests.length, 3)
  assert.equal(await readMetric(gateway.url, 'autoglm_model_breaker_state{model="m",state="open"}'), 1)
  assert.equal(await readMetric(gateway.url, 'autoglm_model_breaker_state{model="m",state="closed"}'), 0)
  assert.equal(
    await readMetric(gateway.url, 'autoglm_model_breaker_transitions_total{model="m",to="open"}'),
    1,
  )
  // The only instance of a model keeps its traffic: its model's breaker is the one that acts.
  assert.equal(
    await readMetric(gateway.url, 'autoglm_instance_breaker_state{instance="a",state="closed"}'),
    1,
  )
})
