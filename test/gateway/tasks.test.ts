import { strict as assert } from 'node:assert'
import { after, before, describe, it, mock } from 'node:test'
import { StoreUnavailable } from '../../src/storage/store.ts'
import { post } from '../helpers/gateway.ts'
import { as, getAs, refused, type Fields, type Page, type Shown } from '../helpers/task-calls.ts'
import { aTask, TaskServer } from '../helpers/task-server.ts'

let server: TaskServer
before(async () => {
  server = await TaskServer.start({ config: { queue: { tenantTasksMax: 5_000 } } })
})
after(() => server[Symbol.asyncDispose]())

const submit = async (tenant: string, more: Fields = {}, body: Fields = {}): Promise<Shown> => {
  const response = await post(server.url, '/v1/tasks', aTask(more, body), as(tenant))
  assert.equal(response.status, 202)
  return (await response.json()) as Shown
}
const get = <T = Shown>(path: string, tenant: string) => getAs<T>(server, path, tenant)
const act = (id: string, action: string, tenant: string) =>
  fetch(`${server.url}/v1/tasks/${id}/${action}`, { method: 'POST', ...as(tenant) })

// First, while no other task waits: `work` takes the next one, whosever it is.
describe('one task', () => {
  it('is shown with its history, its result and its usage', async () => {
    const { id } = await submit('one')
    const claimed = await server.work()
    await server.finish(claimed, { id: 'c', choices: [], odd: '\u2028</script>\n' })
    const task = await get(`/v1/tasks/${id}`, 'one')
    assert.equal(task.status, 'succeeded')
    assert.equal(task['attempts'], 1)
    assert.deepEqual(task['result'], { id: 'c', choices: [], odd: '\u2028</script>\n' })
    assert.deepEqual(task['usage'], { prompt_tokens: 5, completion_tokens: 3, total_tokens: 8, prompt_tokens_details: { cached_tokens: 1 } })
    assert.deepEqual(task.history.map(({ seq, status, attempt, instance }) => [seq, status, attempt, instance]), [[1, 'queued', 0, null], [2, 'running', 1, null], [3, 'succeeded', 1, 'u0']])
    assert.ok(!('body' in task) && !('steps' in task))
    const whole = await get(`/v1/tasks/${id}?include=body`, 'one')
    assert.deepEqual(whole['body'], aTask()['body'])
    assert.equal(whole['webhook'], null)
    await refused(await fetch(`${server.url}/v1/tasks/${id}?include=payload`, as('one')), 400, 'invalid_request', 'include')
    await refused(await fetch(`${server.url}/v1/tasks/${id}?body=1`, as('one')), 400, 'invalid_request', 'body')
    await act(id, 'cancel', 'one')
    assert.equal((await get(`/v1/tasks/${id}`, 'one')).status, 'succeeded')
  }) // prettier-ignore

  it('of several steps shows each with what it has', async () => {
    const steps = ['first', 'second'].map((name) => ({ name, endpoint: '/v1/completions', body: { model: 'm', prompt: name } }))
    const { id } = (await (await post(server.url, '/v1/tasks', { steps }, as('steps'))).json()) as Shown
    const { task } = await server.work()
    assert.equal(task.id, id)
    await server.store.tasks.saveStep(id, 1, { step: 0, attempt: 1, result: Buffer.from('{"a":1}') })
    const shown = await get(`/v1/tasks/${id}?include=body`, 'steps')
    assert.equal(shown['endpoint'], 'sequence')
    assert.ok(!('body' in shown))
    assert.deepEqual(shown.steps, [
      { name: 'first', endpoint: '/v1/completions', attempt: 1, result: { a: 1 }, body: steps[0]?.body },
      { name: 'second', endpoint: '/v1/completions', attempt: null, result: null, body: steps[1]?.body },
    ])
    await act(id, 'cancel', 'steps')
  }) // prettier-ignore

  it('is cancelled, queued again, and removed', async () => {
    const { id } = await submit('life')
    const cancelled = await act(id, 'cancel', 'life')
    assert.equal(cancelled.status, 200)
    assert.equal(((await cancelled.json()) as Shown).status, 'cancelled')
    const requeued = await act(id, 'requeue', 'life')
    assert.equal(requeued.status, 200)
    assert.equal(((await requeued.json()) as Shown).status, 'queued')
    await refused(await act(id, 'requeue', 'life'), 409, 'conflict')
    const remove = () => fetch(`${server.url}/v1/tasks/${id}`, { method: 'DELETE', ...as('life') })
    await refused(await remove(), 409, 'conflict')

    const claimed = await server.work()
    assert.equal(claimed.task.id, id)
    const asked = (await (await act(id, 'cancel', 'life')).json()) as Shown
    assert.deepEqual([asked.status, asked['cancel_requested']], ['running', true])
    const outcome = { kind: 'cancelled' } as const
    await server.store.tasks.settle([
      { id, attempt: claimed.task.attempt, nowMs: Date.now(), instance: null, outcome },
    ])
    const after = await get(`/v1/tasks/${id}`, 'life')
    assert.deepEqual([after.status, after['cancel_requested']], ['cancelled', false])

    const removed = await remove()
    assert.equal(removed.status, 204)
    assert.equal(await removed.text(), '')
    await refused(await remove(), 404, 'task_not_found')
  })

  it('is nobody else’s', async () => {
    const { id } = await submit('mine')
    const ways: [string, string][] = [['GET', ''], ['GET', '/events'], ['POST', '/cancel'], ['POST', '/requeue'], ['DELETE', '']]
    for (const [method, path] of ways) {
      await refused(await fetch(`${server.url}/v1/tasks/${id}${path}`, { method, ...as('yours') }), 404, 'task_not_found')
      await refused(await fetch(`${server.url}/v1/tasks/${id}${path}`, { method }), 404, 'task_not_found')
      await refused(await fetch(`${server.url}/v1/tasks/${id}x${path}`, { method, ...as('mine') }), 404, 'task_not_found')
    }
    assert.equal((await get<Page>('/v1/tasks', 'yours')).data.length, 0)
    assert.equal((await get<Page>('/v1/tasks', 'yours')).counts['queued'], 0)
    assert.equal((await get(`/v1/tasks/${id}`, 'mine')).status, 'queued')
    await act(id, 'cancel', 'mine')
  }) // prettier-ignore

  it('takes a body it has no use for, and a method it has not', async () => {
    const { id } = await submit('bodies')
    const response = await fetch(`${server.url}/v1/tasks/${id}/cancel`, { method: 'POST', body: new URLSearchParams({ a: '1' }), ...as('bodies') })
    assert.equal(response.status, 200)
    assert.equal((await post(server.url, `/v1/tasks/${id}/cancel`, '', as('bodies'))).status, 200)
    const put = await fetch(`${server.url}/v1/tasks/${id}`, { method: 'PUT' })
    assert.match(put.headers.get('allow') ?? '', /GET.*DELETE|DELETE.*GET/)
    assert.equal((await fetch(`${server.url}/v1/tasks/${id}/events`, { method: 'HEAD' })).status, 405)
  }) // prettier-ignore
})

describe('POST /v1/tasks', () => {
  it('answers with the task and where it is', async () => {
    const response = await post(
      server.url,
      '/v1/tasks',
      aTask({
        priority: 'high',
        run_at: 4_000_000_000,
        deadline: '2100-01-01T00:00:00Z',
        max_attempts: 2,
        metadata: { run: '7' },
      }),
      as('submit'),
    )
    assert.equal(response.status, 202)
    const task = (await response.json()) as Shown
    assert.equal(response.headers.get('location'), `/v1/tasks/${task.id}`)
    assert.ok(response.headers.get('x-request-id'))
    const { id, created_at, ...rest } = task
    assert.match(id, /^task_/)
    assert.ok(Math.abs((created_at as number) - Date.now() / 1000) < 60)
    assert.deepEqual(rest, {
      object: 'task', status: 'delayed', endpoint: '/v1/chat/completions', model: 'm', priority: 'high', attempts: 0, max_attempts: 2,
      run_at: 4_000_000_000, deadline: 4_102_444_800, started_at: null, finished_at: null, cancel_requested: false, batch: null,
      metadata: { run: '7' }, error: null, usage: null,
    }) // prettier-ignore
  })

  it('gives the same task for the same key and body, and refuses another body', async () => {
    const send = (key: string, more: Fields, tenant = 'keys') =>
      post(server.url, '/v1/tasks', aTask(more), as(tenant, { 'idempotency-key': key }))
    const first = await send('k 1~', { metadata: { a: '1' } })
    assert.equal(first.status, 202)
    const { id } = (await first.json()) as Shown
    const again = await send('k 1~', { metadata: { a: '1' } })
    assert.equal(again.status, 200)
    assert.equal(again.headers.get('location'), `/v1/tasks/${id}`)
    assert.equal(((await again.json()) as Shown).id, id)
    await refused(await send('k 1~', { metadata: { a: '2' } }), 409, 'idempotency_conflict')
    const other = await send('k 1~', { metadata: { a: '2' } }, 'keys-too')
    assert.equal(other.status, 202)
    // Many at the same moment are one.
    const many = await Promise.all(Array.from({ length: 20 }, () => send('at-once', {})))
    assert.equal(many.filter(({ status }) => status === 202).length, 1)
    assert.equal(
      new Set(await Promise.all(many.map(async (one) => ((await one.json()) as Shown).id))).size,
      1,
    )
  })

  const withKey = (key: string) => ({ headers: { 'idempotency-key': key } })
  const call = aTask()
  const refusals: [what: string, body: unknown, status: number, code: string, param: string | null, more?: RequestInit][] = [
    ['no JSON', '{"endpoint":', 400, 'invalid_json', null],
    ['no body', '', 400, 'invalid_json', null],
    ['an array', [], 400, 'invalid_json', null],
    ['too deep a body', `{"a":${'['.repeat(100)}${']'.repeat(100)}}`, 400, 'invalid_json', null],
    ['nothing to do', {}, 400, 'invalid_request', 'endpoint'],
    ['an endpoint that is none', { ...call, endpoint: '/v1/tasks' }, 400, 'invalid_request', 'endpoint'],
    ['a misspelt field', { ...call, dead_line: 1 }, 400, 'invalid_request', 'dead_line'],
    ['a call without messages', { ...call, body: { model: 'm' } }, 400, 'invalid_request', 'body.messages'],
    ['a model that is not served', { ...call, body: { ...(call['body'] as Fields), model: 'x' } }, 404, 'model_not_found', 'body.model'],
    ['a deadline that is over', { ...call, deadline: 1 }, 400, 'invalid_request', 'deadline'],
    ['a priority that is none', { ...call, priority: 'soon' }, 400, 'invalid_request', 'priority'],
    ['a webhook without a secret to sign it', { ...call, webhook: { url: 'https://example.com' } }, 400, 'invalid_request', 'webhook.url'],
    ['an empty key', call, 400, 'invalid_request', 'Idempotency-Key', withKey('')],
    ['a long key', call, 400, 'invalid_request', 'Idempotency-Key', withKey('k'.repeat(256))],
    ['a key beyond ASCII', call, 400, 'invalid_request', 'Idempotency-Key', withKey('caf\u00e9')],
    ['a tenant that is none', call, 400, 'invalid_request', 'x-autoglm-tenant', { headers: { 'x-autoglm-tenant': 'a b' } }],
    ['a form', call, 415, 'unsupported_media_type', null, { headers: { 'content-type': 'application/x-www-form-urlencoded' } }],
  ] // prettier-ignore
  for (const [what, body, status, code, param, more] of refusals) {
    it(`refuses ${what}`, async () => {
      await refused(await post(server.url, '/v1/tasks', body, more), status, code, param)
    })
  }

  it('refuses parameters, of which it has none', async () => {
    await refused(
      await post(server.url, '/v1/tasks?priority=high', aTask()),
      400,
      'invalid_request',
      'priority',
    )
  })

  it('says when to come again while the queue is full', async () => {
    await using small = await TaskServer.start({ config: { queue: { tenantTasksMax: 2 } } })
    for (let count = 0; count < 2; count += 1)
      assert.equal((await post(small.url, '/v1/tasks', aTask())).status, 202)
    const full = await post(small.url, '/v1/tasks', aTask())
    assert.ok(Number(full.headers.get('retry-after')) >= 1)
    await refused(full, 429, 'queue_full')
    assert.equal((await post(small.url, '/v1/tasks', aTask(), as('other'))).status, 202)
  })

  it('acknowledges nothing while the storage is away', async () => {
    const away = () => Promise.reject(new StoreUnavailable('the disk is full'))
    const broken = (['submit', 'list', 'get'] as const).map((name) =>
      mock.method(server.store.tasks, name, away),
    )
    try {
      const response = await post(server.url, '/v1/tasks', aTask(), as('away'))
      assert.ok(Number(response.headers.get('retry-after')) >= 1)
      await refused(response, 503, 'storage_unavailable')
      await refused(await fetch(`${server.url}/v1/tasks`), 503, 'storage_unavailable')
      await refused(await fetch(`${server.url}/v1/tasks/task_1/events`), 503, 'storage_unavailable')
    } finally {
      for (const method of broken) method.mock.restore()
    }
    assert.equal((await get<Page>('/v1/tasks', 'away')).data.length, 0)
  })
})

it('the routes are in /openapi.json', async () => {
  const { paths } = (await (await fetch(`${server.url}/openapi.json`)).json()) as { paths: Record<string, Record<string, { summary?: string }>> }
  const found = Object.entries(paths).filter(([path]) => path.startsWith('/v1/tasks'))
  const named = found.flatMap(([path, methods]) => Object.entries(methods).map(([method, { summary }]) => `${method} ${path} ${summary === undefined ? '-' : 'ok'}`))
  for (const route of ['post /v1/tasks', 'get /v1/tasks', 'get /v1/tasks/{id}', 'delete /v1/tasks/{id}', 'get /v1/tasks/{id}/events', 'post /v1/tasks/{id}/cancel', 'post /v1/tasks/{id}/requeue']) {
    assert.ok(named.includes(`${route} ok`), route)
  }
}) // prettier-ignore
