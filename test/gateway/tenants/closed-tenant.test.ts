import { strict as assert } from 'node:assert'
import { it } from 'node:test'
import { chat, startGateway, upstream } from '../../helpers/gateway.ts'
import { Folder, TestStore } from '../../helpers/sqlite.ts'
import { FakeUpstream } from '../../helpers/upstream.ts'

it('a tenant whose stored settings can not be read gets neither models nor tasks, and others all of it', async () => {
  await using folder = await Folder.make()
  {
    await using store = await TestStore.open(folder.database)
    await store.access.putTenant({ name: 'broken', settings: '{', updatedAtMs: 0, version: 0 }, 9)
  }
  await using fake = await FakeUpstream.start()
  await using gateway = await startGateway({ dataDir: folder.path, upstreams: [upstream('a', fake.url)] })
  const ask = async (tenant: string, path: string, body?: object) => {
    const response = await fetch(gateway.url + path, {
      method: body ? 'POST' : 'GET',
      headers: { 'x-autoglm-tenant': tenant, 'content-type': 'application/json' },
      ...(body ? { body: JSON.stringify(body) } : {}),
    })
    return { status: response.status, text: await response.text() }
  }
  const calls: [path: string, body?: object][] = [
    ['/v1/chat/completions', chat()],
    ['/v1/responses', { model: 'm', input: 'Hi' }],
    ['/v1/responses', { model: 'm', input: 'Hi', background: true }],
    ['/v1/tasks', { endpoint: '/v1/chat/completions', body: chat() }],
    ['/v1/models'],
  ]
  for (const [path, body] of calls) {
    const refused = await ask('broken', path, body)
    assert.equal(refused.status, 503, `${path} ${refused.text}`)
    assert.match(refused.text, /storage_unavailable.*can not be read|can not be read.*storage_unavailable/)
  }
  assert.equal(fake.requests.length, 0)
  for (const [path, body] of calls) {
    const { status, text } = await ask('other', path, body)
    assert.ok(status < 300, `${path}: ${status} ${text}`)
  }
})
