import { strict as assert } from 'node:assert'
import { describe, it, test } from 'node:test'
import { chat, upstream } from '../helpers/gateway.ts'
import { GuardedGateway } from '../helpers/guarded-gateway.ts'
import { TaskServer } from '../helpers/task-server.ts'
import { FakeUpstream } from '../helpers/upstream.ts'

const ours = 'https://app.example.com'
const foreign = 'https://evil.example'
const path = '/v1/chat/completions'

async function start(corsOrigins?: readonly string[]) {
  const fake = await FakeUpstream.start()
  const house = await GuardedGateway.start({
    upstreams: [upstream('a', fake.url)],
    server: corsOrigins ? { corsOrigins } : {},
  })
  const key = await house.keyOf('t', ['inference'])
  return {
    /** What a browser asks before it sends a call with a key. */
    preflight: (origin: string, to = path) =>
      house.ask(null, 'OPTIONS', to, undefined, {
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization,content-type',
      }),
    call: (origin: string, by: string | null = key) => house.ask(by, 'POST', path, chat(), { origin }),
    /** As anything but a page asks. */
    fetchKeys: () => house.ask(null, 'GET', '/.well-known/jwks.json'),
    async [Symbol.asyncDispose]() {
      await fake.stop()
      await house[Symbol.asyncDispose]()
    },
  }
}

const allowed = (reply: { headers: Headers }) => reply.headers.get('access-control-allow-origin')
const namesOf = (reply: { headers: Headers }) =>
  [...reply.headers.keys()].filter((name) => name.startsWith('access-control-'))

describe('pages of other origins', () => {
  it('may not call, unless somebody says so', async () => {
    await using server = await start()
    const asked = await server.preflight(ours)
    assert.equal(asked.status, 405)
    assert.deepEqual(namesOf(asked), [])
    assert.deepEqual(namesOf(await server.call(ours)), [])
  })

  it('may call where they are named, and no others', async () => {
    await using server = await start([ours])
    const asked = await server.preflight(ours)
    assert.equal(asked.status, 204)
    assert.equal(allowed(asked), ours)
    assert.equal(asked.headers.get('access-control-allow-headers'), 'authorization,content-type')
    assert.match(asked.headers.get('access-control-allow-methods') ?? '', /\bPOST\b/)
    const answer = await server.call(ours)
    assert.equal(answer.status, 200)
    assert.equal(allowed(answer), ours)
    assert.equal(answer.headers.get('vary'), 'origin')
    assert.match(answer.headers.get('access-control-expose-headers') ?? '', /x-request-id/)
    for (const stranger of [foreign, 'null', 'https://app.example.com.evil.example', 'http://app.example.com', `${ours}:8443`, ours.toUpperCase()]) {
      assert.deepEqual(namesOf(await server.preflight(stranger)), [], stranger)
      const refused = await server.call(stranger)
      assert.deepEqual(namesOf(refused), [], stranger)
      assert.equal(refused.headers.get('vary'), 'origin', 'a cache must not give it to others')
    }
    const { headers } = await server.fetchKeys()
    assert.match(headers.get('cache-control') ?? '', /public/)
    assert.equal(headers.get('vary'), 'origin', 'a cache must not give it to pages')
  }) // prettier-ignore

  it('are let in by `*`, and never with credentials that come by themselves', async () => {
    await using server = await start(['*'])
    for (const origin of [ours, foreign, 'null']) {
      const asked = await server.preflight(origin)
      assert.equal(allowed(asked), '*')
      assert.equal(asked.headers.get('access-control-allow-credentials'), null)
      assert.equal(allowed(await server.call(origin)), '*')
    }
  })

  it('can read why they were refused', async () => {
    await using server = await start([ours])
    const refused = await server.call(ours, null)
    assert.equal(refused.status, 401)
    assert.equal(allowed(refused), ours)
  })

  it('learn by asking nothing of what is there', async () => {
    await using server = await start([ours])
    const [there, nowhere] = [await server.preflight(ours), await server.preflight(ours, '/v2/none')]
    assert.deepEqual([there.status, there.text], [nowhere.status, nowhere.text])
  })
})

test('without authentication a page can not send a form either, which browsers send without asking', async () => {
  await using server = await TaskServer.start()
  const upload = async (origin?: string) => {
    const body = new FormData()
    body.set('purpose', 'user_data')
    body.set('file', new Blob(['x']), 'x')
    const headers = origin === undefined ? {} : { origin }
    return (await fetch(`${server.url}/v1/files`, { method: 'POST', body, headers })).status
  }
  assert.deepEqual([await upload(foreign), await upload('null')], [403, 403])
  const { data } = (await (await fetch(`${server.url}/v1/files`)).json()) as { data: unknown[] }
  assert.deepEqual(data, [])
  assert.deepEqual([await upload(server.url), await upload()], [200, 200])
})

describe('pages of this server', () => {
  it('can not be framed, sniffed or scripted from elsewhere', async () => {
    const fake = await FakeUpstream.start()
    await using house = await GuardedGateway.start({ upstreams: [upstream('a', fake.url)] })
    for (const page of ['/docs', '/docs/static/index.html']) {
      let { status, headers, text } = await house.ask(null, 'GET', page)
      if (status === 302) ({ status, headers, text } = await house.ask(null, 'GET', headers.get('location') ?? ''))
      assert.equal(status, 200, page)
      assert.match(text, /swagger/i)
      assert.equal(headers.get('x-content-type-options'), 'nosniff')
      assert.equal(headers.get('x-frame-options'), 'DENY')
      assert.equal(headers.get('referrer-policy'), 'no-referrer')
      assert.match(headers.get('content-security-policy') ?? '', /default-src 'self'.*frame-ancestors 'none'/)
      assert.ok(!/script-src[^;]*unsafe/.test(headers.get('content-security-policy') ?? ''))
    }
    await fake.stop()
  }) // prettier-ignore

  it('are no place for a file of a tenant', async () => {
    const fake = await FakeUpstream.start()
    await using house = await GuardedGateway.start({ upstreams: [upstream('a', fake.url)] })
    const key = await house.keyOf('t', ['tasks'])
    const form = new FormData()
    form.set('purpose', 'user_data')
    form.set('file', new Blob(['<script>alert(1)</script>'], { type: 'text/html' }), '"><script>\r\nx: y.html')
    const { text } = await house.ask(key, 'POST', '/v1/files', form)
    const { id } = JSON.parse(text) as { id: string }
    const { headers } = await house.ask(key, 'GET', `/v1/files/${id}/content`)
    assert.equal(headers.get('content-type'), 'application/octet-stream')
    assert.equal(headers.get('x-content-type-options'), 'nosniff')
    assert.match(headers.get('content-disposition') ?? '', /^attachment; filename\*=UTF-8''[\w.%-]+$/)
    await fake.stop()
  }) // prettier-ignore
})
