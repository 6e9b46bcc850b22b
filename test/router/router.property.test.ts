import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import fc from 'fast-check'
import { chat, post, readMetric, startGateway, upstream } from '../helpers/gateway.ts'
import { chatEvent, FakeUpstream, sendJson, answerChat, type Behaviour } from '../helpers/upstream.ts'

const whole = answerChat()

/** What an instance may do with one request; which one is drawn anew for each. */
const behaviours: readonly Behaviour[] = [
  whole,
  whole,
  (_request, _response, socket) => socket.destroy(),
  (_request, response) => sendJson(response, 500, {}),
  (_request, response) => sendJson(response, 503, {}, { 'retry-after': '0' }),
  (_request, response) => sendJson(response, 400, { error: { message: 'no' } }),
  (_request, response) => response.writeHead(200, { 'content-type': 'application/json' }).end('half {'),
  (_request, response, socket) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(`${chatEvent('a')}data: {"cut`)
    setImmediate(() => socket.destroy())
  },
  // Never answers: the client will leave.
  () => {},
]

test('in-flight counts end at zero over random failures, aborts and retries', async () => {
  const script: number[] = []
  const behave: Behaviour = (request, response, socket) =>
    behaviours[script.shift() ?? 0]?.(request, response, socket)
  await using a = await FakeUpstream.start(behave)
  await using b = await FakeUpstream.start(behave)
  await using c = await FakeUpstream.start(behave)
  await using gateway = await startGateway({
    upstreams: [upstream('a', a.url), upstream('b', b.url), upstream('c', c.url)],
    routing: { retryReserve: 10_000 },
    health: { ejectBaseMs: 1 },
  })

  const scenario = fc.array(
    fc.record({
      stream: fc.boolean(),
      abortAfterRequests: fc.option(fc.integer({ min: 0, max: 2 }), { nil: null }),
      draws: fc.array(fc.nat({ max: behaviours.length - 1 }), { minLength: 1, maxLength: 3 }),
    }),
    { minLength: 1, maxLength: 12 },
  )
  await fc.assert(
    fc.asyncProperty(scenario, async (calls) => {
      script.length = 0
      await Promise.all(
        calls.map(async ({ stream, abortAfterRequests, draws }) => {
          script.push(...draws)
          // The last way out for a request that an instance never answers.
          const abort = new AbortController()
          const seen = a.requests.length + b.requests.length + c.requests.length
          const leave = async () => {
            const enough = () =>
              a.requests.length + b.requests.length + c.requests.length >= seen + (abortAfterRequests ?? 3)
            await Promise.race([a.until(enough), b.until(enough), c.until(enough)])
            abort.abort()
          }
          if (abortAfterRequests !== null) void leave()
          setTimeout(() => abort.abort(), 150)
          await post(gateway.url, '/v1/chat/completions', chat({ stream }), { signal: abort.signal })
            .then((response) => response.text())
            .catch(() => {})
        }),
      )
      // A request whose client left may still be on its way to the instance: a scrape that finds only itself in
      // flight says that all is over. It never does when a count is wrong.
      for (let scrapes = 0; (await readMetric(gateway.url, 'autoglm_requests_in_flight')) > 1; scrapes += 1) {
        assert.ok(scrapes < 500, 'requests stay in flight for ever')
      }
      for (const fake of [a, b, c]) await fake.until(({ active }) => active === 0)
      assert.equal(await readMetric(gateway.url, 'autoglm_admission_in_flight{model="m"}'), 0)
      for (const id of ['a', 'b', 'c']) {
        assert.equal(await readMetric(gateway.url, `autoglm_instance_in_flight{instance="${id}"}`), 0, id)
        assert.equal(await readMetric(gateway.url, `autoglm_instance_waiting_bytes{instance="${id}"}`), 0, id)
      }
    }),
    { numRuns: 25 },
  )
})
