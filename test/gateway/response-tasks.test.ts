import { strict as assert } from 'node:assert'
import { after, before, test } from 'node:test'
import { post } from '../helpers/gateway.ts'
import { ResponseServer } from '../helpers/response-server.ts'
import { as, refused, type Fields, type Page, type Shown } from '../helpers/task-calls.ts'
import { FakeUpstream } from '../helpers/upstream.ts'

let fake: FakeUpstream
let server: ResponseServer
before(async () => {
  fake = await FakeUpstream.start()
  server = await ResponseServer.start({ upstreams: [fake.url] })
})
after(async () => {
  await server[Symbol.asyncDispose]()
  await fake.stop()
})

const body = (more: Fields = {}) => ({ model: 'm', input: 'And then?', ...more })
const call = (more: Fields = {}) => ({ endpoint: '/v1/responses', body: body(more) })
const submit = (task: Fields, tenant: string) => post(server.url, '/v1/tasks', task, as(tenant))

async function make(tenant: string): Promise<string> {
  const response = await post(server.url, '/v1/responses', body(), as(tenant))
  assert.equal(response.status, 200)
  return ((await response.json()) as { id: string }).id
}

test('a task that goes on from a response that is not there is refused when it is submitted', async () => {
  const theirs = await make('theirs')
  for (const id of ['resp_none', theirs, '', '{{steps.first.id}}', '\0']) {
    const { message } = await refused(
      await submit(call({ previous_response_id: id }), 'mine'),
      404,
      'response_not_found',
      'body.previous_response_id',
    )
    assert.match(message, /`body\.previous_response_id` must name one/)
  }
  const first = { name: 'first', ...call() }
  const second = { name: 'second', ...call({ previous_response_id: 'resp_none' }) }
  const answer = await submit({ steps: [first, second] }, 'mine')
  await refused(answer, 404, 'response_not_found', 'steps[1].body.previous_response_id')
  const other = await submit(call({ previous_response_id: 7 }), 'mine')
  await refused(other, 400, 'invalid_request', 'body.previous_response_id')
  const page = (await (await fetch(`${server.url}/v1/tasks`, as('mine'))).json()) as Page
  assert.deepEqual(page.data, [])
})

test('a task goes on from a response that is there, and from what an earlier step makes', async () => {
  const previous = await make('good')
  const alone = await submit(call({ previous_response_id: previous }), 'good')
  assert.equal(alone.status, 202)
  assert.equal(await server.work(), 'succeeded')
  const { id } = (await alone.json()) as Shown
  const shown = (await (await fetch(`${server.url}/v1/tasks/${id}`, as('good'))).json()) as Shown
  assert.equal((shown['result'] as Fields)['previous_response_id'], previous)

  const first = { name: 'first', ...call({ previous_response_id: previous }) }
  const second = { name: 'second', ...call({ previous_response_id: '{{steps.first.id}}' }) }
  assert.equal((await submit({ steps: [first, second] }, 'good')).status, 202)
})
