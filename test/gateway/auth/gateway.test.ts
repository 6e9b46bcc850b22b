import { strict as assert } from 'node:assert'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { systemClock } from '../../../src/core/clock.ts'
import { TestAccess } from '../../helpers/access.ts'
import { chat, startGateway, upstream, type TestGateway } from '../../helpers/gateway.ts'
import { Folder, TestStore } from '../../helpers/sqlite.ts'
import { FakeUpstream } from '../../helpers/upstream.ts'

type OpenApi = { paths: Record<string, Record<string, unknown>> }

/** What anybody may ask for. Whoever adds a route that is not to be here is told so below. */
const open = new Set([
  'get /healthz',
  'get /livez',
  'get /readyz',
  'get /openapi.json',
  'get /.well-known/jwks.json',
])

describe('a gateway that asks for keys', () => {
  let folder: Folder
  let fake: FakeUpstream
  let gateway: TestGateway
  const keys: Record<'inference' | 'tasks' | 'read' | 'admin', string> = {} as never

  before(async () => {
    folder = await Folder.make()
    {
      await using store = await TestStore.open(join(folder.path, 'autoglm.db'))
      await using access = await TestAccess.open({}, { store, clock: systemClock })
      for (const role of ['inference', 'tasks', 'read', 'admin'] as const) {
        keys[role] = (await access.makeKey({ roles: [role] })).text
      }
    }
    fake = await FakeUpstream.start()
    gateway = await startGateway({
      dataDir: folder.path,
      auth: { required: true },
      upstreams: [upstream('a', fake.url)],
    })
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    await fake[Symbol.asyncDispose]()
    await folder[Symbol.asyncDispose]()
  })

  const ask = (method: string, path: string, key: string | null, body?: object) =>
    fetch(gateway.url + path, {
      method,
      headers: {
        ...(key === null ? {} : { authorization: `Bearer ${key}` }),
        ...(body ? { 'content-type': 'application/json' } : {}),
      },
      ...(body ? { body: JSON.stringify(body) } : {}),
    })

  it('answers whoever has the role, streaming or not, and asks no instance for anybody else', async () => {
    for (const stream of [false, true]) {
      const answered = await ask('POST', '/v1/chat/completions', keys.inference, chat({ stream }))
      assert.equal(answered.status, 200)
      assert.match(await answered.text(), /Hel/)
      const count = fake.requests.length
      const none = await ask('POST', '/v1/chat/completions', null, chat({ stream }))
      assert.equal(none.status, 401)
      assert.equal(none.headers.get('www-authenticate'), 'Bearer realm="open-autoglm"')
      const poor = await ask('POST', '/v1/chat/completions', keys.read, chat({ stream }))
      assert.equal(poor.status, 403)
      assert.match(((await poor.json()) as { error: { message: string } }).error.message, /`inference`/)
      assert.equal(fake.requests.length, count)
    }
  })

  it('asks for a key on every route that its document lists, but for those that are open', async () => {
    const { paths } = (await (await ask('GET', '/openapi.json', null)).json()) as OpenApi
    let count = 0
    for (const [path, methods] of Object.entries(paths)) {
      for (const method of Object.keys(methods)) {
        const response = await ask(method.toUpperCase(), path.replaceAll(/\{\w+\}/g, 'x'), null)
        await response.body?.cancel()
        if (open.has(`${method} ${path}`)) assert.notEqual(response.status, 401, `${method} ${path}`)
        else assert.equal(response.status, 401, `${method} ${path}`)
        count += 1
      }
    }
    assert.ok(count > 30, `${count} routes`)
  })

  it('keeps administration to administrators on every route of it', async () => {
    const { paths } = (await (await ask('GET', '/openapi.json', null)).json()) as OpenApi
    const routes = Object.entries(paths).flatMap(([path, methods]) =>
      path.startsWith('/v1/admin') ? Object.keys(methods).map((method) => [method, path] as const) : [],
    )
    assert.ok(routes.length >= 8)
    for (const [method, path] of routes) {
      for (const role of ['inference', 'tasks', 'read'] as const) {
        const response = await ask(method.toUpperCase(), path.replaceAll(/\{\w+\}/g, 'x'), keys[role])
        await response.body?.cancel()
        assert.equal(response.status, 403, `${role}: ${method} ${path}`)
      }
    }
    assert.equal((await ask('GET', '/metrics', keys.read)).status, 403)
    assert.equal((await ask('GET', '/metrics', keys.admin)).status, 200)
  })

  it('takes a token in place of its key', async () => {
    const made = await ask('POST', '/auth/token', keys.inference, {})
    const { access_token: token } = (await made.json()) as { access_token: string }
    const answered = await ask('POST', '/v1/chat/completions', token, chat())
    assert.equal(answered.status, 200)
    await answered.text()
  })
})
