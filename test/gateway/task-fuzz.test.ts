import { strict as assert } from 'node:assert'
import { after, before, describe, it } from 'node:test'
import fc from 'fast-check'
import { post } from '../helpers/gateway.ts'
import { as, type Refusal } from '../helpers/task-calls.ts'
import { aTask, TaskServer } from '../helpers/task-server.ts'

let server: TaskServer
before(async () => {
  server = await TaskServer.start({ config: { queue: { tenantTasksMax: 5_000 } } })
})
after(() => server[Symbol.asyncDispose]())

describe('hostile requests', () => {
  const headerText = fc.string({ unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)), maxLength: 40 })
  const field = fc.constantFrom('endpoint', 'body', 'steps', 'priority', 'run_at', 'deadline', 'max_attempts', 'metadata', 'webhook', '__proto__', 'x')
  const junk = fc.oneof(fc.jsonValue({ maxDepth: 3 }), fc.constantFrom('\0', '\ud800', -0, 1e308, 9e15, '{{steps.a}}', '/v1/completions', 'm', { model: 'm', prompt: '\0' }))
  const body = fc.oneof(
    fc.dictionary(field, junk).map((fields) => JSON.stringify(fields)),
    fc.tuple(field, junk).map(([name, value]) => JSON.stringify({ ...aTask(), [name]: value })),
    fc.tuple(fc.string(), fc.string()).map(([name, value]) => JSON.stringify(aTask({ metadata: { [name]: value } }))),
    fc.string(),
  )
  const name = fc.constantFrom('status', 'priority', 'model', 'created_after', 'created_before', 'metadata[a]', 'batch', 'after', 'order', 'limit', 'include')
  const raw = fc.oneof(fc.string().map(encodeURIComponent), fc.constantFrom('%', '%00', '%ff', '%ed%a0%80', '1', 'queued', '-1', '9'.repeat(30), 'none', 'NaN', '[]', "'%20OR%201=1--"))
  const query = fc.array(fc.tuple(fc.oneof(name, fc.string().map(encodeURIComponent)), raw)).map((pairs) => pairs.map(([key, value]) => `${key}=${value}`).join('&'))

  const judge = async (response: Response, what: string) => {
    const text = await response.text()
    assert.ok(response.status < 500, `${response.status} for ${what}: ${text}`)
    if (response.status >= 400) assert.equal(typeof (JSON.parse(text) as Refusal).error.message, 'string', what)
  }

  it('never harm the server', async () => {
    const seed = Date.now() % 1e9
    console.log(`# seed ${seed}`)
    await fc.assert(
      fc.asyncProperty(body, query, raw, headerText, async (json, search, id, header) => {
        await judge(await post(server.url, '/v1/tasks', json, { headers: { 'x-autoglm-tenant': 'fuzz', 'idempotency-key': header } }), json)
        await judge(await fetch(`${server.url}/v1/tasks?${search}`, as('fuzz')), search)
        await judge(await fetch(`${server.url}/v1/tasks/${id === '' ? '_' : id}?${search}`, as('fuzz')), id)
        await judge(await fetch(`${server.url}/v1/tasks/${id === '' ? '_' : id}/events`, as('fuzz', { 'last-event-id': header })), id)
        await judge(await fetch(`${server.url}/v1/tasks/${id === '' ? '_' : id}/cancel`, { method: 'POST', ...as('fuzz') }), id)
      }),
      { numRuns: 150, seed },
    )
    assert.equal((await fetch(`${server.url}/v1/tasks`)).status, 200)
  })
}) // prettier-ignore
