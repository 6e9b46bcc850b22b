import { strict as assert } from 'node:assert'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { startApp } from '../../../src/app.ts'
import type { Permission } from '../../../src/gateway/auth/caller.ts'
import { makeConfig, post, upstream } from '../../helpers/gateway.ts'
import { GuardedGateway, type Reply } from '../../helpers/guarded-gateway.ts'
import type { ShownUsage } from '../../../src/cli/usage-show.ts'
import { eventually } from '../../helpers/server.ts'
import { TestStore } from '../../helpers/sqlite.ts'
import { FakeUpstream } from '../../helpers/upstream.ts'

type Body = {
  data: ShownUsage[]
  has_more: boolean
  last_id: string
  id: string
  status: string
  error: { code: string; message: string; param: string | null }
}
const read = ({ text }: Reply) => JSON.parse(text) as Body

/** An answer of the fake instance: 5 tokens of a prompt and 3 of an answer. */
const oneCost = (5 * 100_000 + 3 * 1_000_000) / 1e6

let instance: FakeUpstream
let gateway: GuardedGateway
before(async () => {
  instance = await FakeUpstream.start()
  gateway = await GuardedGateway.start({
    upstreams: [upstream('u', instance.url)],
    prices: { m: { input: 100_000, output: 1_000_000 } },
    tenants: {
      thrifty: { budgetPerMonth: 2 * oneCost },
      slow: { budgetPerMonth: oneCost / 2 },
    },
  })
})
after(async () => {
  await gateway[Symbol.asyncDispose]()
  await instance.stop()
})

/** A week back: no test may fail because a day or a month ends meanwhile. */
const all = `/v1/usage?width=all&start=${Math.floor(Date.now() / 1_000) - 604_800}`
const everyday: readonly Permission[] = ['inference', 'tasks', 'read']
const chat = { model: 'm', messages: [{ role: 'user', content: 'Hi' }] }
const ask = async (tenant: string, method: string, path: string, body?: object, roles = everyday) =>
  gateway.ask(await gateway.keyOf(tenant, roles), method, path, body)
/** What `GET /v1/usage` says of a tenant in its own words, once it has counted so many requests. */
async function usageOf(tenant: string, requests: number): Promise<ShownUsage> {
  let sum: ShownUsage | undefined
  await eventually(`${requests} requests of ${tenant} are stored`, async () => {
    const found = read(await ask(tenant, 'GET', all)).data
    sum = found[0]
    return (sum?.requests ?? 0) + (sum?.failed_requests ?? 0) >= requests
  })
  return sum as ShownUsage
}

describe('usage over HTTP', () => {
  it('counts answers, refusals and tasks of a tenant, by key and model', async () => {
    assert.equal((await ask('acme', 'POST', '/v1/chat/completions', chat)).status, 200)
    assert.equal((await ask('acme', 'POST', '/v1/responses', { model: 'm', input: 'Hi' })).status, 200)
    assert.equal((await ask('acme', 'POST', '/v1/chat/completions', { ...chat, stream: true })).status, 200)
    const bad = { model: 'm', prompt: 'x', max_tokens: 1 }
    assert.equal((await ask('acme', 'POST', '/v1/completions', { ...bad, model: 'nobody' })).status, 404)
    const task = read(await ask('acme', 'POST', '/v1/tasks', { endpoint: '/v1/chat/completions', body: chat }))
    const live = await usageOf('acme', 4)
    assert.deepEqual(
      [live.requests, live.failed_requests, live.prompt_tokens, live.completion_tokens, live.cost],
      [4, 0, 20, 12, Number((4 * oneCost).toPrecision(12))],
    )
    assert.equal(read(await ask('acme', 'GET', `/v1/tasks/${task.id}`)).status, 'succeeded')
    const keyed = read(await ask('acme', 'GET', `${all}&group_by=key,model`)).data
    assert.equal(keyed.length, 1, 'the task counts for the key that submitted it')
    assert.deepEqual([keyed[0]?.model, keyed[0]?.tenant, keyed[0]?.requests], ['m', 'acme', 4])
    const byKey = read(await ask('acme', 'GET', `${all}&key=${keyed[0]?.key}`)).data
    assert.equal(byKey[0]?.requests, 4)
    assert.deepEqual(read(await ask('acme', 'GET', '/v1/usage?key=none')).data, [])
  }) // prettier-ignore

  it('shows a tenant nothing of another, and those with `admin` all', async () => {
    await ask('acme', 'POST', '/v1/chat/completions', chat)
    await ask('other', 'POST', '/v1/chat/completions', chat)
    await usageOf('acme', 1)
    const other = await usageOf('other', 1)
    assert.equal(other.requests, 1)
    const { key } = read(await ask('acme', 'GET', `${all}&group_by=key`)).data[0] as ShownUsage
    assert.deepEqual(read(await ask('other', 'GET', `/v1/usage?key=${key}`)).data, [], 'a key of another')
    const grouped = read(await ask('other', 'GET', `${all}&group_by=tenant`)).data
    assert.deepEqual(grouped.map(({ tenant }) => tenant), ['other'])
    for (const tenant of ['acme', '*', 'nobody', 'default']) {
      const refused = await ask('other', 'GET', `/v1/usage?tenant=${tenant}`)
      assert.deepEqual([refused.status, read(refused).error.code], [403, 'forbidden'], tenant)
    }
    assert.equal((await ask('other', 'GET', '/v1/usage?tenant=other')).status, 200)
    const place = read(await ask('acme', 'GET', `${all}&group_by=tenant`)).data[0]?.id
    const behind = read(await ask('other', 'GET', `${all}&group_by=tenant&after=${place}`)).data
    assert.deepEqual(behind.map(({ tenant }) => tenant), ['other'], 'and by no place of a page')

    const everybody = read(await gateway.ask(gateway.admin, 'GET', `${all}&tenant=*&group_by=tenant`)).data
    assert.deepEqual(everybody.map(({ tenant }) => tenant).filter((name) => name !== 'thrifty' && name !== 'slow'), ['acme', 'other'])
    const one = read(await gateway.ask(gateway.admin, 'GET', `${all}&tenant=other`)).data
    assert.deepEqual(one.map(({ tenant, requests }) => [tenant, requests]), [['other', 1]])
  }) // prettier-ignore

  it('wants a permission, whichever', async () => {
    for (const role of everyday) assert.equal((await ask('acme', 'GET', '/v1/usage', undefined, [role])).status, 200)
    assert.equal((await gateway.ask(null, 'GET', '/v1/usage')).status, 401)
  }) // prettier-ignore

  it('goes by pages', async () => {
    await usageOf('acme', 1)
    await usageOf('other', 1)
    const page = async (more: string) => {
      const query = `tenant=*&group_by=tenant&limit=1${more}`
      return read(await gateway.ask(gateway.admin, 'GET', `${all}&${query}`))
    }
    const first = await page('')
    assert.deepEqual([first.data.length, first.has_more, first.last_id], [1, true, first.data[0]?.id])
    const second = await page(`&after=${first.last_id}`)
    assert.equal(second.data.length, 1)
    assert.notEqual(second.data[0]?.id, first.data[0]?.id)
  })

  it('shows sums clipped to the hours asked for', async () => {
    await usageOf('acme', 1)
    const now = Math.floor(Date.now() / 1_000)
    const hour = now - (now % 3_600)
    const [sum] = read(await ask('acme', 'GET', `/v1/usage?width=all&start=${now - 3 * 3_600}&end=${now}`)).data
    assert.deepEqual([sum?.start, sum?.end], [hour - 3 * 3_600, hour + 3_600])
    assert.deepEqual(read(await ask('acme', 'GET', `/v1/usage?start=${hour - 7_200}&end=${hour - 1}`)).data, [])
  }) // prettier-ignore

  const mistakes: [query: string, param: string, message: RegExp][] = [
    ['from=1', 'from', /not a parameter here; known are start, end/],
    ['start=yesterday', 'start', /unix seconds or a time/],
    ['end=2026-02-30T00:00:00Z', 'end', /unix seconds or a time/],
    ['start=1767225600&end=1767225600', 'end', /must lie after `start`/],
    ['start=1767225600&end=1777225600&width=hour', 'width', /hour for 31 days at most/],
    ['start=1', 'width', /day for 400 days at most/],
    ['width=week', 'width', /one of hour, day, month, all; it is "week"/],
    ['width=day&width=hour', 'width', /once only/],
    ['group_by=tenant,colour', 'group_by', /tenant, key, model; it is "colour"/],
    ['tenant=a%20b', 'tenant', /1 to 100 letters/],
    ['key=acme', 'key', /the id of a key, or none/],
    ['model=', 'model', /1 to 512 characters/],
    ['limit=0', 'limit', /from 1 to 1000; it is "0"/],
    ['limit=1001', 'limit', /from 1 to 1000/],
    ['after=task_1', 'after', /the `last_id` of a page/],
    ['after=usage_WzEsMl0', 'after', /the `last_id` of a page/],
    ['after=usage_', 'after', /the `last_id` of a page/],
  ]
  for (const [query, param, message] of mistakes) {
    it(`refuses ${query}`, async () => {
      const refused = await ask('acme', 'GET', `/v1/usage?${query}`)
      assert.equal(refused.status, 400)
      const { error } = read(refused)
      assert.equal(error.param, param)
      assert.match(error.message, message)
    })
  }
})

describe('budgets over HTTP', () => {
  it('turn away who has spent them, live and in the queue, with the time to wait', async () => {
    for (let n = 0; n < 2; n += 1) {
      assert.equal((await ask('thrifty', 'POST', '/v1/chat/completions', chat)).status, 200)
    }
    const refused = await ask('thrifty', 'POST', '/v1/chat/completions', chat)
    const waitS = Number(refused.headers.get('retry-after'))
    assert.equal(refused.status, 429)
    assert.equal(read(refused).error.code, 'budget_exceeded')
    assert.match(read(refused).error.message, /budget of 7 a month; the next month begins at \d{4}-\d\d-01T00:00Z/)
    assert.ok(waitS >= 1 && waitS <= 31 * 86_400, String(waitS))
    const others: [path: string, body: object][] = [
      ['/v1/responses', { model: 'm', input: 'Hi' }],
      ['/v1/responses', { model: 'm', input: 'Hi', background: true }],
      ['/v1/tasks', { endpoint: '/v1/chat/completions', body: chat }],
    ]
    for (const [path, body] of others) {
      assert.equal(read(await ask('thrifty', 'POST', path, body)).error.code, 'budget_exceeded', path)
    }
    const sum = await usageOf('thrifty', 4)
    assert.deepEqual([sum.requests, sum.cost], [2, 2 * oneCost])
    assert.ok(sum.failed_requests >= 2)
  }) // prettier-ignore

  it('count tasks as well, and run those that were taken before', async () => {
    const submit = () => ask('slow', 'POST', '/v1/tasks', { endpoint: '/v1/chat/completions', body: chat })
    const taken = [read(await submit()), read(await submit())]
    assert.ok(taken.every(({ id }) => id.startsWith('task_')))
    const sum = await usageOf('slow', 2)
    assert.deepEqual([sum.requests, sum.failed_requests], [2, 0])
    const refused = read(await submit())
    assert.match(refused.error.message, /budget of 1\.75 a month/)
    await gateway.ask(gateway.admin, 'GET', '/metrics').then(({ text }) => {
      assert.match(text, /autoglm_cost_total\{model="m"\} \d/)
      assert.doesNotMatch(text, /tenant="slow"/)
    })
  })
})

it('what was counted in the last moment is stored when a server stops', async () => {
  for (const force of [false, true]) {
    const dataDir = await mkdtemp(join(tmpdir(), 'autoglm-usage-'))
    try {
      const config = await makeConfig({ dataDir, upstreams: [upstream('u', instance.url)] })
      const app = await startApp(config, { version: 'test', env: {} })
      for (let n = 0; n < 7; n += 1) {
        const response = await post(app.url, '/v1/chat/completions', chat)
        assert.equal(response.status, 200)
        await response.text()
      }
      await app.stop({ force })
      await using store = await TestStore.open(join(dataDir, 'autoglm.db'))
      const everything = {
        fromMs: 0,
        toMs: Number.MAX_SAFE_INTEGER,
        width: 'all',
        groups: [],
        limit: 9,
      } as const
      const [sum] = await store.usage.sum(everything)
      assert.deepEqual([sum?.requests, sum?.promptTokens, sum?.completionTokens], [7, 35, 21])
    } finally {
      await rm(dataDir, { recursive: true, force: true })
    }
  }
})
