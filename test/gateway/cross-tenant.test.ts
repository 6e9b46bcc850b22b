import { strict as assert } from 'node:assert'
import { after, before, describe, it } from 'node:test'
import { permissions } from '../../src/config/schema.ts'
import type { Permission } from '../../src/gateway/auth/caller.ts'
import { upstream } from '../helpers/gateway.ts'
import { GuardedGateway, type Reply } from '../helpers/guarded-gateway.ts'
import { fillPath, listOperations, type Operation } from '../helpers/operations.ts'
import { eventually } from '../helpers/server.ts'
import { answerChat, FakeUpstream } from '../helpers/upstream.ts'

/** Tenant `alpha` owns everything here; `beta` tries to get at it. The word in its objects must never reach beta. */
const [owner, intruder] = ['alpha', 'beta']
const marker = 'alphas-own-word'
const roles = permissions.filter((role) => role !== 'admin')

let fake: FakeUpstream
let house: GuardedGateway
let operations: Operation[]
before(async () => {
  fake = await FakeUpstream.start(answerChat(), ['shared', 'alpha-only'])
  house = await GuardedGateway.start({
    upstreams: [upstream('a', fake.url, { models: { shared: 'shared', 'alpha-only': 'alpha-only' } })],
    routing: { aliases: { 'alpha-alias': 'alpha-only' } },
    // What is made waits: no task runs, so that there is something to cancel.
    queue: { concurrencyMax: 0 },
    health: { probeIntervalMs: 100 },
    tenants: { [intruder]: { models: ['shared'] } },
  })
  operations = await listOperations(house.url)
})
after(async () => {
  await fake.stop()
  await house[Symbol.asyncDispose]()
})

const chat = (model: string, content = marker) => ({ model, messages: [{ role: 'user', content }] })
/** What any of the routes may answer. */
type Shown = {
  id: string
  access_token: string
  status: string
  error_file_id: string | null
  data: object[]
  counts: Record<string, number>
  reasons: string[]
  error: { code: string }
}
const read = ({ text }: Pick<Reply, 'text'>): Shown => JSON.parse(text) as Shown

async function make(path: string, body: unknown, headers: Record<string, string> = {}): Promise<string> {
  const reply = await house.ask(await house.keyOf(owner, roles), 'POST', path, body, headers)
  assert.ok(reply.status < 300, `${path}: ${reply.text}`)
  return read(reply).id
}

const makeFile = () => {
  const form = new FormData()
  const line = { custom_id: marker, method: 'POST', url: '/v1/chat/completions', body: chat('shared') }
  form.set('purpose', 'batch')
  form.set('file', new Blob([`${JSON.stringify(line)}\n`]), `${marker}.jsonl`)
  return make('/v1/files', form)
}
const makeResponse = (more: object = {}) =>
  make('/v1/responses', { model: 'shared', input: marker, metadata: { word: marker }, ...more })

/** Its stream lasts as long as it waits: the first event says its id, and the rest is left. */
async function makeStreamedResponse(): Promise<string> {
  const response = await fetch(`${house.url}/v1/responses`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${await house.keyOf(owner, roles)}`,
      'content-type': 'application/json',
    },
    body: JSON.stringify({ model: 'shared', input: marker, background: true, stream: true }),
  })
  let text = ''
  for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
    text += Buffer.from(chunk).toString()
    const id = /"id":"(resp_\w+)"/.exec(text)?.[1]
    if (id !== undefined) return id
  }
  throw new Error(`no id in ${text}`)
}

/** How an object of each collection comes to be. A route whose objects are not made here fails the test below. */
const makers: Readonly<Record<string, readonly (() => Promise<string>)[]>> = {
  '/v1/models': [() => Promise.resolve('alpha-only'), () => Promise.resolve('alpha-alias')],
  '/v1/tasks': [
    () => make('/v1/tasks', { endpoint: '/v1/chat/completions', body: chat('shared'), metadata: { word: marker } }),
  ],
  '/v1/files': [makeFile],
  '/v1/batches': [
    async () => make('/v1/batches', { input_file_id: await makeFile(), endpoint: '/v1/chat/completions', completion_window: '24h', metadata: { word: marker } }),
  ],
  '/v1/responses': [
    makeResponse,
    () => makeResponse({ background: true }),
    makeStreamedResponse,
  ],
  '/v1/admin/keys': [
    async () => read(await house.ask(house.admin, 'POST', '/v1/admin/keys', { tenant: owner, name: marker })).id,
  ],
  '/v1/admin/tenants': [() => Promise.resolve(owner)],
} // prettier-ignore

/** An id of the same form that no object has had. */
function spoil(id: string): string {
  const last = id.at(-1) === 'x' ? 'y' : 'x'
  return `${id.slice(0, -1)}${id.startsWith('alpha') || /^[a-z]+_/.test(id) ? last : id.endsWith('0') ? '1' : '0'}`
}

/** All that a caller can learn from an answer, without the id that it sent itself and what differs each time. */
function learn({ status, headers, text }: Reply, id: string) {
  const volatile = new Set(['date', 'x-request-id', 'keep-alive'])
  const shown = [...headers].filter(([name]) => !volatile.has(name) && !name.startsWith('x-ratelimit'))
  return { status, headers: Object.fromEntries(shown), text: text.replaceAll(id, 'ID').replaceAll(encodeURIComponent(id), 'ID') }
} // prettier-ignore

const ofObjects = () =>
  operations.filter((operation) => operation.collection !== null && operation.access !== 'public')
const isForAdmins = ({ access }: Operation) =>
  typeof access !== 'string' && access.every((one) => one === 'admin')

it('knows how to make an object for every route that has one', () => {
  for (const { method, path, collection } of ofObjects()) {
    assert.ok(
      makers[collection ?? ''],
      `${method} ${path} is new: add a function to \`makers\` in test/gateway/cross-tenant.test.ts that makes an object ` +
        `of ${collection} as the tenant \`${owner}\` and returns its id, so that others can be shown to be kept from it`,
    )
  }
  assert.ok(ofObjects().length >= 20, 'the document lists fewer routes than there are')
})

describe('an object of another tenant is one that is not there, whatever is done to it', () => {
  it('on every route of the document', async () => {
    const whole = await house.keyOf(intruder, roles)
    let tried = 0
    for (const [collection, makeAll] of Object.entries(makers)) {
      for (const makeOne of makeAll) {
        const id = await makeOne()
        const strange = spoil(id)
        assert.notEqual(id, strange)
        for (const operation of ofObjects().filter((one) => one.collection === collection)) {
          const { method, path } = operation
          const methods = method === 'GET' ? ['HEAD', 'GET'] : [method]
          const what = `${method} ${fillPath(path, id)}`
          const body = method === 'PUT' ? { settings: {} } : undefined
          for (const verb of methods) {
            const found = await house.ask(whole, verb, fillPath(path, id), body)
            const absent = await house.ask(whole, verb, fillPath(path, strange), body)
            assert.deepEqual(learn(found, id), learn(absent, strange), what)
            // What only administrators may do is refused before anything is looked for.
            const expected = [...(isForAdmins(operation) ? [403] : [404]), ...(verb === 'HEAD' ? [405] : [])]
            assert.ok(expected.includes(found.status), `${what}: ${found.status} ${found.text}`)
            assert.ok(!found.text.includes(marker), what)
            tried += 1
          }
        }
        await assertUnharmed(collection, id)
      }
    }
    assert.ok(tried > 40)
  })

  async function assertUnharmed(collection: string, id: string): Promise<void> {
    const key = collection.startsWith('/v1/admin') ? house.admin : await house.keyOf(owner, roles)
    if (collection === '/v1/admin/tenants') return
    const { status, text } = await house.ask(key, 'GET', `${collection}/${id}`)
    assert.equal(status, 200, `${collection}/${id}: ${text}`)
    assert.ok(!/"status":"(cancel|revoked|failed)/.test(text), text)
  }

  it('by a token, a query, or another name for the tenant', async () => {
    const id = await makers['/v1/tasks']![0]!()
    const key = await house.keyOf(intruder, roles)
    const { access_token: token } = read(await house.ask(key, 'POST', '/auth/token'))
    assert.equal((await house.ask(token, 'GET', `/v1/tasks/${id}`)).status, 404)
    assert.equal((await house.ask(key, 'GET', `/v1/tasks/${id}?tenant=${owner}`)).status, 400)
    const asOwner = await house.ask(key, 'GET', `/v1/tasks/${id}`, undefined, { 'x-autoglm-tenant': owner })
    const asNobody = await house.ask(key, 'GET', `/v1/tasks/${id}`, undefined, { 'x-autoglm-tenant': 'zeta' })
    assert.equal(asOwner.status, 403)
    assert.deepEqual(learn(asOwner, owner), learn(asNobody, 'zeta'), 'nor does it learn which tenants there are')
  }) // prettier-ignore
})

describe('what names an object of another tenant', () => {
  const references: [what: string, collection: string, ask: (id: string) => [path: string, body?: unknown, method?: string]][] = [
    ['a response that goes on from it', '/v1/responses', (id) => ['/v1/responses', { model: 'shared', input: 'x', previous_response_id: id }]],
    ['a background response that goes on from it', '/v1/responses', (id) => ['/v1/responses', { model: 'shared', input: 'x', background: true, previous_response_id: id }]],
    ['a task that goes on from it', '/v1/responses', (id) => ['/v1/tasks', { endpoint: '/v1/responses', body: { model: 'shared', input: 'x', previous_response_id: id } }]],
    ['a batch of its file', '/v1/files', (id) => ['/v1/batches', { input_file_id: id, endpoint: '/v1/chat/completions', completion_window: '24h' }]],
    ['a page of tasks after it', '/v1/tasks', (id) => [`/v1/tasks?after=${id}`, undefined, 'GET']],
    ['the tasks of its batch', '/v1/batches', (id) => [`/v1/tasks?batch=${id}`, undefined, 'GET']],
    ['a page of files after it', '/v1/files', (id) => [`/v1/files?after=${id}`, undefined, 'GET']],
    ['a page of batches after it', '/v1/batches', (id) => [`/v1/batches?after=${id}`, undefined, 'GET']],
    ['a completion of its model', '/v1/models', (id) => ['/v1/completions', { model: id, prompt: 'x' }]],
    ['a chat with its model', '/v1/models', (id) => ['/v1/chat/completions', chat(id, 'x')]],
    ['an embedding by its model', '/v1/models', (id) => ['/v1/embeddings', { model: id, input: 'x' }]],
    ['a response by its model', '/v1/models', (id) => ['/v1/responses', { model: id, input: 'x' }]],
    ['a streamed response by its model', '/v1/models', (id) => ['/v1/responses', { model: id, input: 'x', stream: true }]],
    ['a background response by its model', '/v1/models', (id) => ['/v1/responses', { model: id, input: 'x', background: true }]],
    ['a task for its model', '/v1/models', (id) => ['/v1/tasks', { endpoint: '/v1/chat/completions', body: chat(id, 'x') }]],
    ['a sequence with its model', '/v1/models', (id) => ['/v1/tasks', { endpoint: 'sequence', steps: [{ id: 'a', endpoint: '/v1/chat/completions', body: chat('shared', 'x') }, { id: 'b', endpoint: '/v1/chat/completions', body: chat(id, 'x') }] }]],
    ['tasks of its model', '/v1/models', (id) => [`/v1/tasks?model=${id}`, undefined, 'GET']],
  ] // prettier-ignore
  for (const [what, collection, ask] of references) {
    it(`is answered as if it were not there: ${what}`, async () => {
      const key = await house.keyOf(intruder, roles)
      for (const makeOne of makers[collection] ?? []) {
        const id = await makeOne()
        const replies = []
        for (const name of [id, spoil(id)]) {
          const [path, body, method = 'POST'] = ask(name)
          const reply = await house.ask(key, method, path, body)
          assert.ok(!reply.text.includes(marker), reply.text)
          replies.push(learn(reply, name))
        }
        assert.deepEqual(replies[0], replies[1])
        if (ask(id)[1] !== undefined)
          assert.ok([400, 404].includes(replies[0]!.status), `${replies[0]!.status}`)
        assert.ok(!fake.requests.some(({ body }) => body.includes('alpha-only')), 'the model was asked')
      }
    })
  }

  it('is seen by its owner, so that the refusals mean something', async () => {
    const key = await house.keyOf(owner, roles)
    const previous = await makeResponse()
    const body = { model: 'shared', input: 'x', previous_response_id: previous }
    assert.equal((await house.ask(key, 'POST', '/v1/responses', body)).status, 200)
    assert.equal((await house.ask(key, 'POST', '/v1/chat/completions', chat('shared'))).status, 200)
    assert.equal((await house.ask(key, 'GET', '/v1/models/alpha-only')).status, 200)
  })

  it('in a line of a batch is an error of that line like any other', async () => {
    const key = await house.keyOf(intruder, roles)
    const messages: string[] = []
    for (const model of ['alpha-only', 'alpha-onlx']) {
      const form = new FormData()
      const line = { custom_id: 'a', method: 'POST', url: '/v1/chat/completions', body: chat(model, 'x') }
      form.set('purpose', 'batch')
      form.set('file', new Blob([`${JSON.stringify(line)}\n`]), 'lines.jsonl')
      const { id: file } = read(await house.ask(key, 'POST', '/v1/files', form))
      const made = await house.ask(key, 'POST', '/v1/batches', { input_file_id: file, endpoint: '/v1/chat/completions', completion_window: '24h' })
      const { id } = read(made)
      let shown: Shown | null = null
      await eventually('the batch has ended', async () => {
        shown = read(await house.ask(key, 'GET', `/v1/batches/${id}`))
        return ['completed', 'failed'].includes(shown.status)
      }, 60_000)
      const { error_file_id: errors } = shown!
      const { text } = await house.ask(key, 'GET', `/v1/files/${errors}/content`)
      messages.push(text.replaceAll(model, 'MODEL').replaceAll(/"id":"[^"]*"/g, ''))
    }
    assert.match(messages[0]!, /model_not_found/)
    assert.equal(messages[0], messages[1])
  }) // prettier-ignore
})

describe('lists', () => {
  it('never hold what is of another tenant', async () => {
    const ids: string[] = []
    for (const all of Object.values(makers)) for (const makeOne of all) ids.push(await makeOne())
    const key = await house.keyOf(intruder, roles)
    const lists = operations.filter(({ method, collection }) => method === 'GET' && collection === null)
    assert.ok(lists.length > 5)
    for (const { path, access } of lists) {
      const { status, text } = await house.ask(key, 'GET', path)
      assert.equal(status, isForAdmins({ path, access } as Operation) ? 403 : 200, `${path}: ${text}`)
      for (const secret of [...ids, marker]) assert.ok(!text.includes(secret), `${path} tells of ${secret}`)
    }
    const queries = ['/v1/tasks?metadata%5Bword%5D=', '/v1/tasks?limit=100&status=queued', '/v1/tasks?order=asc', '/v1/files?purpose=batch', '/v1/batches?limit=100']
    for (const path of queries) {
      const { text } = await house.ask(key, 'GET', path.endsWith('=') ? `${path}${marker}` : path)
      assert.deepEqual(read({ text }).data.filter((one) => JSON.stringify(one).includes(marker)), [], path)
    }
    const counts = read(await house.ask(await house.keyOf('nobody-yet', roles), 'GET', '/v1/tasks')).counts
    assert.ok(Object.values(counts).every((count) => count === 0), 'nor are they counted')
  }) // prettier-ignore
})

describe('what is remembered', () => {
  it('is never given to another tenant as a cached answer', async () => {
    const body = { ...chat('shared', 'once'), temperature: 0 }
    const asked = async (key: string) =>
      (await house.ask(key, 'POST', '/v1/chat/completions', body)).headers.get('x-autoglm-cache')
    const [mine, theirs] = [await house.keyOf(owner, roles), await house.keyOf(intruder, roles)]
    assert.equal(await asked(mine), 'miss')
    assert.equal(await asked(mine), 'hit')
    assert.equal(await asked(theirs), 'miss')
    assert.equal(await asked(theirs), 'hit')
    // An administrator who acts for a tenant is that tenant, and no other.
    const acting = (tenant: string) =>
      house.ask(house.admin, 'POST', '/v1/chat/completions', body, { 'x-autoglm-tenant': tenant })
    assert.equal((await acting(intruder)).headers.get('x-autoglm-cache'), 'hit')
    assert.equal((await acting('gamma')).headers.get('x-autoglm-cache'), 'miss')
  })

  it('is not shared between equal calls of two tenants at the same moment', async () => {
    const gate = Promise.withResolvers<void>()
    fake.behave = async (request, response, socket) => {
      await gate.promise
      answerChat()(request, response, socket)
    }
    const before = fake.requests.length
    const body = { ...chat('shared', 'at once'), temperature: 0 }
    const both = [owner, intruder].map(async (tenant) =>
      house.ask(await house.keyOf(tenant, roles), 'POST', '/v1/chat/completions', body),
    )
    await fake.until(() => fake.requests.length === before + 2)
    gate.resolve()
    const replies = await Promise.all(both)
    fake.behave = answerChat()
    assert.deepEqual(
      replies.map(({ headers }) => headers.get('x-autoglm-cache')),
      ['miss', 'miss'],
    )
  })

  it('is kept apart by idempotency keys', async () => {
    const work = { endpoint: '/v1/chat/completions', body: chat('shared') }
    const again = { 'idempotency-key': 'same' }
    const first = await make('/v1/tasks', work, again)
    assert.equal(await make('/v1/tasks', work, again), first)
    const key = await house.keyOf(intruder, roles)
    const other = await house.ask(key, 'POST', '/v1/tasks', work, again)
    assert.equal(other.status, 202)
    assert.notEqual(read(other).id, first)
    // Nor does a body that differs from another tenant's tell that there is one.
    const third = await house.keyOf('gamma', roles)
    const differs = { ...work, body: chat('shared', 'other') }
    assert.equal((await house.ask(third, 'POST', '/v1/tasks', differs, again)).status, 202)
  })
})

describe('every route of the document', () => {
  it('asks for credentials, but for those that are for all', async () => {
    for (const { method, path, access } of operations) {
      const body = method === 'POST' || method === 'PUT' ? {} : undefined
      for (const [how, key] of [['without', null], ['with a bad one', 'sk-agm-none']] as const) {
        const { status, headers, text } = await house.ask(key, method, fillPath(path, 'x'), body)
        const what = `${method} ${path} ${how}: ${status} ${text}`
        if (access === 'public') {
          assert.ok(status < 500 && status !== 401, what)
          continue
        }
        assert.equal(status, 401, what)
        assert.match(headers.get('www-authenticate') ?? '', /^Bearer realm=/, what)
        assert.equal(read({ text }).error.code, 'unauthorized')
      }
    }
  }) // prettier-ignore

  it('asks for its permission by name', async () => {
    for (const { method, path, access } of operations) {
      if (typeof access === 'string') continue
      for (const role of roles.filter((one) => !access.includes(one as Permission))) {
        const key = await house.keyOf(owner, [role])
        const body = method === 'POST' || method === 'PUT' ? {} : undefined
        const { status, headers, text } = await house.ask(key, method, fillPath(path, 'x'), body)
        assert.equal(status, 403, `${method} ${path} as ${role}: ${text}`)
        assert.match(headers.get('www-authenticate') ?? '', new RegExp(`scope="${access.join(' ')}"`))
        for (const permission of access) assert.ok(text.includes(`\`${permission}\``), text)
      }
    }
  })
})

describe('the health of the server', () => {
  it('names models and instances to administrators alone', async () => {
    fake.cut()
    await fake.stop()
    await eventually('the instance is ill', async () => (await house.ask(null, 'GET', '/healthz')).status === 503)
    const readerKey = await house.keyOf(intruder, roles)
    for (const key of [null, 'sk-agm-none', readerKey]) {
      const { text } = await house.ask(key, 'GET', '/healthz')
      assert.deepEqual(read({ text }).reasons, ['no instance is well of 2 of 2 models'])
    }
    assert.match((await house.ask(house.admin, 'GET', '/healthz')).text, /no instance of alpha-only is well: a is/)
  }) // prettier-ignore
})
