import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import type { ErrorBody } from '../../../src/core/errors.ts'
import { chat, post, readMetric, startGateway, upstream } from '../../helpers/gateway.ts'
import { redisSkip, RedisServer } from '../../helpers/redis.ts'
import { eventually } from '../../helpers/server.ts'
import { FakeUpstream } from '../../helpers/upstream.ts'

const as = (tenant: string) => ({ headers: { 'x-autoglm-tenant': tenant } })
const limits = { dynamic: false }
const cache = { enabled: false }

describe('the server', () => {
  it('lets through what a limit allows, tells how it stands, and says when to come again', async () => {
    await using model = await FakeUpstream.start()
    const tenants = { acme: { requestsPerMinute: 2 } }
    await using gateway = await startGateway({ upstreams: [upstream('u', model.url)], tenants, limits, cache })
    const first = await post(gateway.url, '/v1/chat/completions', chat(), as('acme'))
    assert.equal(first.status, 200)
    assert.equal(first.headers.get('x-ratelimit-limit-requests'), '2')
    assert.equal(first.headers.get('x-ratelimit-remaining-requests'), '1')
    await post(gateway.url, '/v1/chat/completions', chat(), as('acme'))
    const refused = await post(gateway.url, '/v1/chat/completions', chat(), as('acme'))
    assert.equal(refused.status, 429)
    assert.ok(Number(refused.headers.get('retry-after')) >= 29)
    assert.equal(refused.headers.get('x-ratelimit-remaining-requests'), '0')
    const { error } = (await refused.json()) as ErrorBody
    assert.equal(error.code, 'rate_limited')
    assert.match(error.message, /^The tenant acme has used up its limit of 2 requests a minute; try again in (29|30) s\.$/)
    const other = await post(gateway.url, '/v1/chat/completions', chat(), as('other'))
    assert.deepEqual([other.status, other.headers.get('x-ratelimit-limit-requests')], [200, null])
    assert.equal(model.requests.length, 3)
    assert.equal(await readMetric(gateway.url, 'autoglm_limits_refused_total{scope="tenant",unit="requests"}'), 1)
  }) // prettier-ignore

  it('frees the slot of a request on every way out', async () => {
    await using model = await FakeUpstream.start()
    const answer = model.behave
    const tenants = { acme: { concurrentMax: 1 } }
    await using gateway = await startGateway({ upstreams: [upstream('u', model.url)], tenants, limits, cache, routing: { attemptsMax: 1 } })
    const ask = (body: unknown, signal?: AbortSignal) =>
      post(gateway.url, '/v1/chat/completions', body, { ...as('acme'), ...(signal ? { signal } : {}) })
    const isFree = async () => {
      const { status } = await ask(chat())
      return status === 200
    }
    // The client hangs up while it waits, and meanwhile there is no room for another.
    model.behave = () => {}
    const hangUp = new AbortController()
    const hanging = ask(chat(), hangUp.signal).catch(() => null)
    await model.until(({ active }) => active === 1)
    const full = await ask(chat())
    assert.deepEqual([full.status, ((await full.json()) as ErrorBody).error.code], [429, 'concurrency_limited'])
    hangUp.abort()
    await hanging
    model.behave = answer
    await eventually('the slot of who hung up is free', isFree)
    // The model fails, the connection breaks, the request itself is wrong, and the body is none.
    model.behave = (_request, response) => response.writeHead(500).end('{}')
    assert.ok((await ask(chat())).status >= 500)
    model.behave = (_request, _response, socket) => socket.destroy()
    assert.ok((await ask(chat())).status >= 500)
    model.behave = (_request, response) => response.writeHead(400, { 'content-type': 'application/json' }).end('{"error":{"message":"no"}}')
    assert.equal((await ask(chat())).status, 400)
    assert.equal((await ask('{')).status, 400)
    model.behave = answer
    await eventually('the slots of what failed are free', isFree)
  }) // prettier-ignore

  it('gives no tokens back to who hangs up, and those of a model that failed', async () => {
    await using model = await FakeUpstream.start()
    const answer = model.behave
    const tenants = { acme: { tokensPerMinute: 1_000 } }
    const routing = { attemptsMax: 1 }
    await using gateway = await startGateway({
      ...{ upstreams: [upstream('u', model.url)], tenants, limits, cache, routing },
    })
    const ask = (signal?: AbortSignal) =>
      post(gateway.url, '/v1/chat/completions', chat({ max_tokens: 300 }), {
        ...{ ...as('acme'), ...(signal ? { signal } : {}) },
      })
    const left = async () => Number((await ask()).headers.get('x-ratelimit-remaining-tokens'))
    model.behave = (_request, response) => response.writeHead(500).end('{}')
    assert.ok((await ask()).status >= 500)
    model.behave = answer
    assert.ok((await left()) > 600, 'only the request that asks has taken any')
    model.behave = () => {}
    const hangUp = new AbortController()
    const hanging = ask(hangUp.signal).catch(() => null)
    await model.until(({ active }) => active === 1)
    hangUp.abort()
    await hanging
    await model.until(({ active }) => active === 0)
    model.behave = answer
    assert.ok((await left()) < 400, 'the estimate of who hung up stands')
  })
})

describe('three servers on one Redis', { skip: redisSkip() }, () => {
  it('hold one limit together, and go on when it is gone', async () => {
    const redis = await RedisServer.create()
    await using model = await FakeUpstream.start()
    const tree = {
      upstreams: [upstream('u', model.url)],
      tenants: { default: { requestsPerMinute: 30 } },
      ...{ limits, cache, redis: { url: redis.url } },
    }
    try {
      await using one = await startGateway(tree)
      await using two = await startGateway(tree)
      await using three = await startGateway(tree)
      const gateways = [one, two, three]
      const ask90 = async (tenant: string) => {
        const asked = Array.from({ length: 90 }, async (_, i) => {
          const { status } = await post(gateways[i % 3]!.url, '/v1/chat/completions', chat(), as(tenant))
          return status
        })
        const statuses = await Promise.all(asked)
        const passed = statuses.filter((status) => status === 200).length
        assert.equal(statuses.filter((status) => status === 429).length, 90 - passed)
        return passed
      }
      // On a machine that is busy with others Redis may answer too late, and a share more comes through: try again.
      let passed = 0
      for (const tenant of ['a', 'b', 'c', 'd']) {
        passed = await ask90(tenant)
        if (passed >= 24 && passed <= 31) break
      }
      assert.ok(passed >= 24 && passed <= 31, `${passed} passed`)
      await redis.kill()
      const alone = await post(one.url, '/v1/chat/completions', chat(), as('somebody-else'))
      assert.equal(alone.status, 200)
      await eventually('it says so', async () => (await readMetric(one.url, 'autoglm_limits_alone')) === 1)
      await redis.start()
      await eventually(
        'it shares again',
        async () => (await readMetric(one.url, 'autoglm_limits_alone')) === 0,
      )
    } finally {
      await redis.remove()
    }
  })
})
