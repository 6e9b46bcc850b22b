import { strict as assert } from 'node:assert'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { upstream } from '../helpers/gateway.ts'
import { makeFirstKey } from '../helpers/guarded-gateway.ts'
import { listOperations } from '../helpers/operations.ts'
import { sendRaw } from '../helpers/raw-http.ts'
import { eventually, Server } from '../helpers/server.ts'
import { answerChat, FakeUpstream, sendJson } from '../helpers/upstream.ts'

/** How many requests; more of them when somebody looks for trouble. */
const runs = Number(process.env['FUZZ_RUNS'] ?? 300)
const seed = Number(process.env['FUZZ_SEED'] ?? Date.now() % 1e9)
const atOnce = 24
const rssGrowthMax = 200 * 1_048_576

/** Each stands in one place of a request; none may come to stand in the log, and some in no answer. */
const secrets = {
  authorization: 'fakeSecretInAuthorization7',
  apiKey: 'fakeSecretInApiKey7',
  cookie: 'fakeSecretInCookie7',
  query: 'fakeSecretInQuery7',
  password: 'fakeSecretInPassword7',
  prompt: 'fakeSecretInPrompt7',
  upstream: 'fakeSecretOfUpstream7',
}
const neverAnswered = [secrets.authorization, secrets.apiKey, secrets.cookie, secrets.upstream]

const injections = ['\u001b[2J', '\\u001b[31m', '"}\\n{\\"forged\\":true}', '%0a{"forged":true}', '\\r\\n{\\"forged\\":true}', "'; DROP TABLE tasks; --", '${jndi:ldap://x}', '../../etc/passwd', '\ud83d\ude00'.repeat(3)] // prettier-ignore
const pick = <T>(...some: readonly T[]) => fc.constantFrom(...some)
/** What a header may hold, and a little that it may not. */
const headerText = fc.oneof(
  fc.string({ maxLength: 60 }).map((text) => text.replaceAll(/[\r\n]/g, '')),
  pick(...injections, '', ' ', ',', 'a'.repeat(2_000), '\u00ff'.repeat(20)),
)

function makeRequests(key: string, targets: readonly { method: string; path: string }[]) {
  const rarely = <T>(usual: T, odd: fc.Arbitrary<T>) => fc.oneof({ weight: 5, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary: odd })
  const credential = rarely(`authorization: Bearer ${key}`, pick(
    ...[`x-api-key: ${key}`, 'x-none: 1'],
    `authorization: Bearer ${secrets.authorization}`,
    `authorization: Basic ${secrets.authorization}`,
    `authorization: ${secrets.authorization}`,
    `authorization: Bearer sk-agm-000000000000-${secrets.authorization.padEnd(51, 'x')}`,
    `authorization: Bearer eyJhbGciOiJub25lIn0.${secrets.authorization}.x`,
    `x-api-key: ${secrets.apiKey}`,
  ))
  const name = pick('x-request-id', 'x-autoglm-tenant', 'x-session-id', 'idempotency-key', 'last-event-id', 'user-agent', 'traceparent', 'x-autoglm-timeout-ms', 'x-stainless-timeout', 'cache-control', 'accept', 'range', 'expect', 'origin', 'content-encoding', 'if-none-match', 'x-forwarded-for', 'connection', 'te', 'upgrade', 'host', '__proto__') // prettier-ignore
  const header = fc.tuple(name, headerText).map(([one, value]) => `${one}: ${value}`)
  const segment = fc.oneof(fc.string({ maxLength: 20 }).map((text) => encodeURIComponent(text.toWellFormed())), pick('..', '%2e%2e', '%2f', '%00', '%', '%ff', ';', '__proto__', 'x'.repeat(600), ...injections.map((text) => encodeURIComponent(text)))) // prettier-ignore
  const calls = targets.filter(({ method, path }) => method === 'POST' && !path.includes('{'))
  const target = fc
    .tuple(fc.oneof(pick(...targets), pick(...calls)), segment, rarely('', pick('/', 'PUT', 'PATCH', 'OPTIONS', 'TRACE', 'HEAD')))
    .map(([{ method, path }, filled, odd]) => {
      const whole = path.replaceAll(/\{\w+\}/g, filled)
      return { method: odd.length > 1 ? odd : method, path: odd === '/' ? `/${whole}` : whole }
    })
  const query = rarely('', fc.oneof(
    pick(`?api_key=${secrets.query}`, `?after=${secrets.query}`, '?limit=1e9', '?limit=-1', '?stream=true', '?a&a&a', '?metadata%5B__proto__%5D=x'),
    fc.string({ maxLength: 30 }).map((text) => `?${encodeURIComponent(text.toWellFormed())}`),
  )) // prettier-ignore
  const prefix = rarely('', pick(`http://user:${secrets.password}@x`, 'http://evil.example'))
  const value = fc.oneof(fc.jsonValue({ maxDepth: 3 }), pick<unknown>(null, -0, 1e308, 'm', [[]], {}, secrets.prompt, ...injections))
  const good = pick<Record<string, unknown>>(
    { model: 'm', messages: [{ role: 'user', content: secrets.prompt }] },
    { model: 'm', prompt: secrets.prompt },
    { model: 'm', input: secrets.prompt, store: true },
    { model: 'm', input: secrets.prompt, background: true },
    { endpoint: '/v1/chat/completions', body: { model: 'm', messages: [{ role: 'user', content: secrets.prompt }] } },
    { endpoint: '/v1/completions', body: { model: 'm', prompt: 'x' }, webhook: { url: `https://u:${secrets.password}@example.com/` } },
    { input_file_id: 'file_x', endpoint: '/v1/completions', completion_window: '24h' },
    { tenant: 't', roles: ['read'] },
    { settings: { models: ['m'] } },
  ) // prettier-ignore
  const field = pick('model', 'messages', 'prompt', 'input', 'stream', 'n', 'user', 'metadata', 'steps', 'endpoint', 'body', 'webhook', 'tools', 'service_tier', 'previous_response_id', 'max_tokens', 'stream_options', 'temperature', 'roles', 'settings', 'x') // prettier-ignore
  const body = fc.oneof(
    { weight: 4, arbitrary: fc.tuple(good, fc.dictionary(field, value, { maxKeys: 3 })).map(([one, more]) => JSON.stringify({ ...one, ...more })) },
    { weight: 2, arbitrary: good.map((one) => JSON.stringify(one)) },
    fc.string(),
    good.map((one) => JSON.stringify(one).slice(0, -5)),
    pick('', '[', '['.repeat(10_000), '\0', '--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--x--\r\n'),
  ) // prettier-ignore
  const type = rarely('application/json', pick('application/json', 'application/json; charset=utf-8', 'text/plain', 'multipart/form-data; boundary=x', 'application/x-www-form-urlencoded', '')) // prettier-ignore
  const framing = rarely('length', pick('chunked', 'chunked', 'both', 'short', 'long', 'none'))
  return fc
    .record({ target, prefix, query, credential, headers: rarely<string[]>([], fc.array(header, { minLength: 1, maxLength: 4 })), body, type, framing })
    .map((one) => {
      const bytes = Buffer.from(one.body)
      const chunks = `${bytes.length.toString(16)}\r\n${bytes.toString('latin1')}\r\n0\r\n\r\n`
      const lengths: Record<string, [lines: string[], body: string]> = {
        length: [[`content-length: ${bytes.length}`], bytes.toString('latin1')],
        chunked: [['transfer-encoding: chunked'], bytes.length === 0 ? '0\r\n\r\n' : chunks],
        both: [[`content-length: ${bytes.length}`, 'transfer-encoding: chunked'], chunks],
        short: [[`content-length: ${Math.max(0, bytes.length - 3)}`], bytes.toString('latin1')],
        long: [[`content-length: ${bytes.length + 3}`], bytes.toString('latin1')],
        none: [[], bytes.toString('latin1')],
      }
      const [lines, sent] = lengths[one.framing]!
      const head = [
        `${one.target.method} ${one.prefix}${one.target.path}${one.query} HTTP/1.1`,
        ...['host: x', 'connection: close', `cookie: session=${secrets.cookie}`, one.credential],
        ...(one.type === '' ? [] : [`content-type: ${one.type}`]),
        ...[...one.headers, ...lines],
      ]
      return Buffer.from(`${head.join('\r\n')}\r\n\r\n${sent}`, 'latin1')
    })
} // prettier-ignore

const readRss = async (pid: number | undefined): Promise<number> =>
  Number(/VmRSS:\s*(\d+)/.exec(await readFile(`/proc/${pid}/status`, 'utf8').catch(() => ''))?.[1] ?? 0) *
  1_024

test('whatever is sent, nothing breaks, nothing stays and nothing is told', async () => {
  console.log(`# seed ${seed}`)
  const folder = await mkdtemp(join(tmpdir(), 'autoglm-fuzz-'))
  process.env['FUZZ_UPSTREAM_KEY'] = secrets.upstream
  await using fake = await FakeUpstream.start((request, response, socket) => {
    // A few answers are hostile too, and tell what they were asked with.
    if (request.body.length % 7 !== 0) return answerChat()(request, response, socket)
    return sendJson(response, 401, { error: { message: JSON.stringify(request.headers) } })
  })
  const admin = await makeFirstKey(folder)
  await using server = await Server.start({
    folder,
    config: {
      dataDir: folder,
      auth: { required: true },
      log: { level: 'debug', format: 'json' },
      upstreams: [upstream('a', fake.url, { apiKeyEnv: 'FUZZ_UPSTREAM_KEY' })],
      server: { headersTimeoutMs: 1_000, requestTimeoutMs: 1_500, bodyBytesMax: 65_536 },
      tenants: { t: { requestsPerMinute: 100_000, concurrentMax: 64, tokensPerMinute: 10_000_000 } },
    },
  })
  const { url } = server
  const asAdmin = { authorization: `Bearer ${admin}`, 'content-type': 'application/json' }
  const made = await fetch(`${url}/v1/admin/keys`, {
    ...{ method: 'POST', headers: asAdmin, body: JSON.stringify({ tenant: 't' }) },
  })
  const { key } = (await made.json()) as { key: string }
  const others = ['/', '/docs', '/docs/static/{x}', '/openapi.json', '/v2/{x}', '*']
  const targets = [...(await listOperations(url)), ...others.map((path) => ({ method: 'GET', path }))]
  const requests = fc.sample(makeRequests(key, targets), { numRuns: runs, seed })
  const rssBefore = await readRss(server.child.pid)

  const seen = new Map<number, number>()
  for (let at = 0; at < requests.length; at += atOnce) {
    await Promise.all(
      requests.slice(at, at + atOnce).map(async (request) => {
        const { statuses, text } = await sendRaw(url, request)
        const what = `seed ${seed}: ${request.toString('latin1').slice(0, 2_000)}\n→ ${text.slice(0, 500)}`
        for (const status of statuses) {
          seen.set(status, (seen.get(status) ?? 0) + 1)
          // An instance that refuses this server's key is no fault of it, and a model that always fails is left alone.
          assert.ok(status < 500 || status === 502 || status === 503, what)
        }
        for (const secret of neverAnswered) assert.ok(!text.includes(secret), what)
        for (const line of text.split('\r\n\r\n', 1)) assert.ok(!line.includes('\u001b'), what)
      }),
    )
    assert.ok(server.isRunning, `seed ${seed}: it ended\n${server.stderr.slice(-2_000)}`)
  }
  console.log(`# answers ${[...seen].sort(([a], [b]) => a - b).map(([status, count]) => `${status}: ${count}`).join(', ')}`) // prettier-ignore
  for (const status of [200, 400, 401, 404]) assert.ok(seen.has(status), `no ${status} among the answers`)

  // Whoever asks is in flight itself; tasks that were submitted may still run for a moment.
  let left: string[] = []
  await eventually('nothing is in flight', async () => {
    const text = await (await fetch(`${url}/metrics`, { headers: asAdmin })).text()
    const counts = text.split('\n').filter((line) => /^autoglm_\w*(in_flight|waiting|waiting_bytes)(\{.*\})? [1-9]/.test(line))
    left = counts.filter((line) => line !== 'autoglm_requests_in_flight 1')
    return left.length === 0
  }).catch((error: unknown) => assert.fail(`${String(error)}: ${left.join('; ')}`)) // prettier-ignore

  const growth = (await readRss(server.child.pid)) - rssBefore
  assert.ok(growth < rssGrowthMax, `it has grown by ${Math.round(growth / 1_048_576)} MiB`)

  server.child.kill('SIGTERM')
  assert.deepEqual(await server.exit, { code: 0, signal: null }, 'it ends as it should')
  const log = server.stderr + server.stdout
  for (const [place, secret] of Object.entries(secrets)) {
    const line = log.split('\n').find((one) => one.includes(secret))
    assert.equal(line, undefined, `the log tells a secret in ${place}`)
  }
  for (const whole of [key, admin]) assert.ok(!log.includes(whole), 'the log tells a key')
  const lines = server.stderr.split('\n').filter((line) => line !== '')
  assert.ok(lines.length > runs / 4, 'there is a line of each request')
  for (const line of lines) {
    assert.ok(!/[\u0000-\u001f\u007f]/.test(line), `a sign that moves the cursor: ${JSON.stringify(line)}`)
    const fields = JSON.parse(line) as { level: number; forged?: boolean }
    assert.equal(fields.forged, undefined, 'a line that a caller wrote')
    assert.ok(fields.level < 50, `seed ${seed}: ${line}`)
  }
  await rm(folder, { recursive: true, force: true })
})
