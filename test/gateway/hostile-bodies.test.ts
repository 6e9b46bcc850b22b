import { strict as assert } from 'node:assert'
import { after, before, describe, it } from 'node:test'
import { chat, upstream } from '../helpers/gateway.ts'
import { GuardedGateway } from '../helpers/guarded-gateway.ts'
import { FakeUpstream } from '../helpers/upstream.ts'

let fake: FakeUpstream
let house: GuardedGateway
let key: string
before(async () => {
  fake = await FakeUpstream.start()
  house = await GuardedGateway.start({
    upstreams: [upstream('a', fake.url)],
    queue: { concurrencyMax: 0 },
  })
  key = await house.keyOf('t')
})
after(async () => {
  await fake.stop()
  await house[Symbol.asyncDispose]()
})

const errorOf = (text: string) =>
  (JSON.parse(text) as { error: { code: string; param: string | null } }).error
const names = [
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'hasOwnProperty',
  'valueOf',
  '__defineGetter__',
]

describe('names that every object has', () => {
  const untouched = () => {
    const plain = {} as Record<string, unknown>
    for (const name of ['polluted', 'admin', 'roles', 'tenant', 'model', 'stream']) {
      assert.equal(plain[name], undefined, `${name} came to be in every object`)
    }
  }

  for (const name of names) {
    it(`are names like any other: ${name}`, async () => {
      const value = '{"polluted":true,"admin":true,"stream":true,"prototype":{"polluted":true}}'
      const texts = [
        `{"model":"m","messages":[{"role":"user","content":"x"}],"${name}":${value}}`,
        `{"model":"m","messages":[{"role":"user","content":"x","${name}":${value}}]}`,
        `{"model":"m","messages":[{"role":"user","content":"x"}],"stream_options":{"${name}":${value}}}`,
        `{"model":"${name}","messages":[{"role":"user","content":"x"}]}`,
        `{"model":"m","messages":[{"role":"${name}","content":"x"}]}`,
        `{"model":"m","input":"x","${name}":${value},"metadata":{"${name}":"x"}}`,
        `{"endpoint":"/v1/chat/completions","body":{"model":"m","messages":[]},"metadata":{"${name}":"x"},"${name}":${value}}`,
        `{"endpoint":"${name}","body":{"model":"m","messages":[]}}`,
        `{"endpoint":"sequence","steps":[{"id":"${name}","endpoint":"/v1/chat/completions","body":{"model":"m","messages":[{"role":"user","content":"{{steps.${name}.${name}}}"}]}}]}`,
        `{"input_file_id":"${name}","endpoint":"/v1/chat/completions","completion_window":"24h","metadata":{"${name}":"x"}}`,
        `{"tenant":"${name}","roles":["read"],"${name}":${value}}`,
        `{"settings":{"${name}":${value},"modelLimits":{"${name}":{"requestsPerMinute":1}}}}`,
        `{"roles":["read"],"${name}":${value}}`,
      ]
      const paths = ['/v1/completions', '/v1/chat/completions', '/v1/embeddings', '/v1/responses', '/v1/tasks', '/v1/batches', '/v1/admin/keys', '/auth/token']
      for (const text of texts) {
        for (const path of paths) {
          const by = path.startsWith('/v1/admin') ? house.admin : key
          const { status, text: answer } = await house.ask(by, 'POST', path, text)
          assert.ok(status < 500, `${status} for ${path} ${text}: ${answer}`)
        }
        const { status, text: answer } = await house.ask(house.admin, 'PUT', `/v1/admin/tenants/x-${name}`, text)
        assert.ok(status < 500, answer)
      }
      for (const path of [`/v1/models/${name}`, `/v1/tasks/${name}`, `/v1/files/${name}`, `/v1/batches/${name}`, `/v1/responses/${name}`, `/v1/tasks?${name}=x`, `/v1/tasks?metadata[${name}]=x`, `/v1/files?${name}[polluted]=true`, `/v1/admin/tenants/${name}`, `/v1/admin/keys?tenant=${name}`]) {
        const { status, text } = await house.ask(path.startsWith('/v1/admin') ? house.admin : key, 'GET', path)
        assert.ok(status < 500 && !text.includes('function'), `${path}: ${text}`)
        if (/^\/v1\/(models|tasks|files|batches|responses)\/\w+$/.test(path)) assert.equal(status, 404, path)
      }
      // A tenant of such a name is a tenant, with keys and limits of its own.
      const own = await house.keyOf(name)
      assert.equal((await house.ask(own, 'POST', '/v1/chat/completions', chat())).status, 200)
      assert.equal((await house.ask(own, 'GET', '/v1/tasks')).status, 200)
      untouched()
    }) // prettier-ignore
  }

  it('in metadata come back as they were', async () => {
    const text = '{"endpoint":"/v1/chat/completions","body":{"model":"m","messages":[{"role":"user","content":"x"}]},"metadata":{"__proto__":"a","constructor":"b"}}'
    const { status, text: answer } = await house.ask(key, 'POST', '/v1/tasks', text)
    assert.equal(status, 202, answer)
    assert.match(answer, /"metadata":\{"__proto__":"a","constructor":"b"\}/)
  }) // prettier-ignore
})

describe('JSON that is made to be dear', () => {
  const deep = (open: string, close: string, count: number) => `${open.repeat(count)}${close.repeat(count)}`
  const wrapped = (text: string) => `{"model":"m","messages":[{"role":"user","content":"x"}],"x":${text}}`
  const bombs: Record<string, [body: string, statuses: readonly number[]]> = {
    'a hundred thousand lists in each other': [wrapped(deep('[', ']', 100_000)), [400]],
    'a hundred thousand objects in each other': [wrapped(`${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`), [400]],
    'one level more than is allowed': [wrapped(deep('[', ']', 64)), [400]],
    'lists that never end': [`{"x":${'['.repeat(1_000_000)}`, [400]],
    'a string that never ends': [`{"x":"${'\\u0000'.repeat(200_000)}`, [400]],
    'a number of a million digits': [wrapped('9'.repeat(1_000_000)), [200]],
    'an exponent of a million digits': [wrapped(`1e${'9'.repeat(1_000_000)}`), [200]],
    'a million numbers': [wrapped(`[${'1,'.repeat(999_999)}1]`), [200]],
    'a hundred thousand names': [wrapped(`{${Array.from({ length: 100_000 }, (_, n) => `"k${n}":1`).join(',')}}`), [200]],
    'a hundred thousand times the same name': [wrapped(`{${'"k":1,'.repeat(100_000)}"k":1}`), [200]],
    'a hundred thousand models': [`{${'"model":"n",'.repeat(100_000)}"model":"m","messages":[{"role":"user","content":"x"}]}`, [200]],
    'a hundred thousand messages': [`{"model":"m","messages":[${'{"role":"user","content":"x"},'.repeat(99_999)}{"role":"user","content":"x"}]}`, [200, 400]],
    'half of a pair of surrogates': [wrapped('"\\ud800"'), [200]],
    'spaces without end': [`${' '.repeat(1_000_000)}${wrapped('1')}`, [200]],
    'references without end': [wrapped(`"${'{{steps.a'.repeat(100_000)}"`), [200]],
  } // prettier-ignore
  for (const [name, [body, statuses]] of Object.entries(bombs)) {
    it(`is answered in little time: ${name}`, async () => {
      const before = process.cpuUsage()
      const { status, text } = await house.ask(key, 'POST', '/v1/chat/completions', body)
      assert.ok(statuses.includes(status), `${status}: ${text.slice(0, 300)}`)
      const { user } = process.cpuUsage(before)
      // The client, the gateway and the instance of this test all read it in this process.
      assert.ok(user < 2_000_000, `it took ${user / 1_000} ms of CPU`)
    })
  }

  it('in each part of a task is refused or kept', async () => {
    const references = '{{steps.a'.repeat(50_000)
    const step = { id: 'a', endpoint: '/v1/chat/completions', body: chat({ user: references }) }
    const before = process.cpuUsage()
    for (const body of [
      { endpoint: 'sequence', steps: [step] },
      { endpoint: 'sequence', steps: Array.from({ length: 5_000 }, () => step).slice(0, 20) },
      { endpoint: '/v1/chat/completions', body: chat(), metadata: Object.fromEntries(Array.from({ length: 10_000 }, (_, n) => [`k${n}`, 'x'])) },
      { endpoint: '/v1/chat/completions', body: chat(), webhook: { url: `https://${'a.'.repeat(50_000)}example/` } },
    ]) {
      const { status, text } = await house.ask(key, 'POST', '/v1/tasks', body)
      assert.equal(status, 400, text.slice(0, 300))
    }
    assert.ok(process.cpuUsage(before).user < 2_000_000)
  }) // prettier-ignore

  it('with a name twice means one thing to all: the last', async () => {
    const text = '{"model":"nobody","model":"m","messages":[{"role":"user","content":"x"}]}'
    assert.equal((await house.ask(key, 'POST', '/v1/chat/completions', text)).status, 200)
    assert.equal(fake.requests.at(-1)?.json['model'], 'm')
    const other = '{"model":"m","model":"nobody","messages":[{"role":"user","content":"x"}]}'
    assert.equal(errorOf((await house.ask(key, 'POST', '/v1/chat/completions', other)).text).code, 'model_not_found')
  }) // prettier-ignore
})

describe('URLs that a caller may set', () => {
  it('lead to no host of this network', async () => {
    await using guarded = await GuardedGateway.start(
      {
        upstreams: [upstream('a', fake.url)],
        queue: { concurrencyMax: 0 },
        webhooks: { secretEnv: 'WEBHOOK_SECRET' },
      },
      { WEBHOOK_SECRET: `whsec_${Buffer.alloc(32, 7).toString('base64')}` },
    )
    const own = await guarded.keyOf('t')
    const good = { url: 'https://hooks.example.com/x' }
    assert.equal((await guarded.ask(own, 'POST', '/v1/tasks', { endpoint: '/v1/chat/completions', body: chat(), webhook: good })).status, 202)
    for (const url of ['http://127.0.0.1/', 'https://127.0.0.1/', 'https://localhost/', 'https://[::1]/', 'https://169.254.169.254/latest', 'https://10.0.0.1/', 'https://0x7f000001/', 'https://2130706433/', 'https://127.1/', 'file:///etc/passwd', 'gopher://x/', 'https://u:p@example.com/', 'javascript:1']) {
      const { status, text } = await guarded.ask(own, 'POST', '/v1/tasks', { endpoint: '/v1/chat/completions', body: chat(), webhook: { url } })
      assert.equal(status, 400, `${url}: ${text}`)
      assert.equal(errorOf(text).param, 'webhook.url')
    }
  }) // prettier-ignore

  it('are never fetched here when they stand in a prompt', async () => {
    let fetched = 0
    await using trap = await FakeUpstream.start(() => (fetched += 1))
    const url = `http://127.0.0.1:${trap.port}/image.png`
    const content = [{ type: 'text', text: url }, { type: 'image_url', image_url: { url } }]
    const bodies: [path: string, body: object][] = [
      ['/v1/chat/completions', { model: 'm', messages: [{ role: 'user', content }] }],
      ['/v1/responses', { model: 'm', input: [{ role: 'user', content: [{ type: 'input_image', image_url: url }, { type: 'input_file', file_url: url }] }] }],
      ['/v1/responses', { model: 'm', input: 'x', tools: [{ type: 'mcp', server_label: 'x', server_url: url }] }],
    ]
    for (const [path, body] of bodies) assert.ok((await house.ask(key, 'POST', path, body)).status < 500)
    assert.equal(fetched, 0)
    assert.equal(trap.requests.length, 0)
  }) // prettier-ignore
})
