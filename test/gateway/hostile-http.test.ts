import { strict as assert } from 'node:assert'
import { after, before, describe, it } from 'node:test'
import { chat, upstream } from '../helpers/gateway.ts'
import { GuardedGateway } from '../helpers/guarded-gateway.ts'
import { raw, sendRaw } from '../helpers/raw-http.ts'
import { FakeUpstream } from '../helpers/upstream.ts'

let fake: FakeUpstream
let house: GuardedGateway
let key: string
before(async () => {
  fake = await FakeUpstream.start()
  house = await GuardedGateway.start({
    upstreams: [upstream('a', fake.url)],
    server: { headersTimeoutMs: 1_000, requestTimeoutMs: 2_000, bodyBytesMax: 65_536 },
  })
  key = await house.keyOf('t', ['inference'])
})
after(async () => {
  await fake.stop()
  await house[Symbol.asyncDispose]()
})

const call = 'POST /v1/chat/completions'
const body = JSON.stringify(chat())
const size = body.length.toString(16)
const length = `content-length: ${body.length}`
const chunked = 'transfer-encoding: chunked'
const inChunks = `${size}\r\n${body}\r\n0\r\n\r\n`
const head = () => [
  'host: x',
  `authorization: Bearer ${key}`,
  'connection: close',
  'content-type: application/json',
]
const nobodys = ['host: x', 'connection: close']
const open = ['host: x']

/** What comes back over the connection, and how many requests reached the instance. */
async function probe(...pieces: (string | Buffer)[]) {
  const before = fake.requests.length
  const answer = await sendRaw(house.url, ...pieces)
  return { ...answer, reached: fake.requests.length - before }
}

describe('a request of which two readers could read two requests', () => {
  const refused: Record<string, () => string> = {
    'a length and chunks': () => raw(call, [...head(), 'content-length: 5', chunked], inChunks),
    'chunks and a length': () => raw(call, [...head(), chunked, length], inChunks),
    'two lengths': () => raw(call, [...head(), length, 'content-length: 3'], body),
    'the same length twice': () => raw(call, [...head(), length, length], body),
    'a list of lengths': () => raw(call, [...head(), `${length}, ${body.length}`], body),
    'a length with a sign': () => raw(call, [...head(), `content-length: +${body.length}`], body),
    'a length below zero': () => raw(call, [...head(), 'content-length: -1'], body),
    'a length in base 16': () => raw(call, [...head(), `content-length: 0x${size}`], body),
    'a length that no integer holds': () => raw(call, [...head(), 'content-length: 99999999999999999999'], body),
    'xchunked': () => raw(call, [...head(), 'transfer-encoding: xchunked'], inChunks),
    'chunked, then identity': () => raw(call, [...head(), 'transfer-encoding: chunked, identity'], inChunks),
    'gzip, then chunked': () => raw(call, [...head(), 'transfer-encoding: gzip, chunked'], inChunks),
    'chunked twice': () => raw(call, [...head(), chunked, chunked], inChunks),
    'identity': () => raw(call, [...head(), 'transfer-encoding: identity'], body),
    'chunked under another coding': () => raw(call, [...head(), chunked, 'transfer-encoding: identity'], inChunks),
    'chunks in HTTP/1.0': () => raw(call, [...head(), chunked], inChunks).replace('HTTP/1.1', 'HTTP/1.0'),
    'a space before the colon': () => raw(call, [...head(), `content-length : ${body.length}`], body),
    'a tab before the colon': () => raw(call, [...head(), `transfer-encoding\t: chunked`, length], body),
    'a space in a name': () => raw(call, [...head(), 'x y: z', length], body),
    'a header that goes on in the next line': () => raw(call, [...head(), 'x-a: b', ' transfer-encoding: chunked', length], body),
    'a first header that is indented': () => raw(call, [' host: y', ...head(), length], body),
    'lines that end in LF alone': () => raw(call, [...head(), length], body).replaceAll('\r\n', '\n'),
    'a CR in a header': () => raw(call, [...head(), 'x-a: b\rx-b: c', length], body),
    'a NUL in a header': () => raw(call, [...head(), 'x-a: \0', length], body),
    'a line without a colon': () => raw(call, [...head(), 'garbage', length], body),
    'a header without a name': () => raw(call, [...head(), ': x', length], body),
    'two hosts': () => raw(call, ['Host: y', ...head(), length], body),
    'two credentials': () => raw(call, [...head(), 'Authorization: Bearer y', length], body),
    'a chunk whose size is no number': () => raw(call, [...head(), chunked], `zz\r\n${body}\r\n0\r\n\r\n`),
    'a chunk below zero': () => raw(call, [...head(), chunked], `-5\r\n${body}\r\n0\r\n\r\n`),
    'a chunk with a space behind its size': () => raw(call, [...head(), chunked], `${size} \r\n${body}\r\n0\r\n\r\n`),
    'a chunk whose size overflows': () => raw(call, [...head(), chunked], `10000000000000000${size}\r\n${body}\r\n0\r\n\r\n`),
    'chunks that end in LF alone': () => raw(call, [...head(), chunked], `${size}\n${body}\n0\n\n`),
    'a chunk extension that ends in LF alone': () => raw(call, [...head(), chunked], `${size};\n${body}\r\n0\r\n\r\n`),
    'a flood of chunk extensions': () => raw(call, [...head(), chunked], `${size};a=${'b'.repeat(100_000)}\r\n${body}\r\n0\r\n\r\n`),
    'HTTP/2.0 in text': () => raw(call, [...head(), length], body).replace('HTTP/1.1', 'HTTP/2.0'),
    'HTTP/1.1 with no host': () => raw(call, [...head().slice(1), length], body),
    'the preface of HTTP/2': () => 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'no version at all': () => 'GET /livez\r\n\r\n',
  } // prettier-ignore
  for (const [name, text] of Object.entries(refused)) {
    it(`is refused, with all behind it: ${name}`, async () => {
      const behind = raw('GET /livez', nobodys)
      const { statuses, reached, text: answer } = await probe(text() + behind)
      assert.deepEqual(statuses, [400], answer)
      assert.match(answer, /"code":"invalid_request"/)
      assert.match(answer, /^connection: close/im)
      assert.equal(reached, 0)
    })
  }

  const taken: Record<string, () => string> = {
    'a length': () => raw(call, [...head(), length], body),
    'chunks': () => raw(call, [...head(), chunked], inChunks),
    'Chunked in capitals': () => raw(call, [...head(), 'Transfer-Encoding: Chunked'], inChunks),
    'chunks with an extension': () => raw(call, [...head(), chunked], `${size};a="b"\r\n${body}\r\n0\r\n\r\n`),
    'HTTP/1.0': () => raw(call, [...head(), length], body).replace('HTTP/1.1', 'HTTP/1.0'),
    'the whole URL': () => raw('POST http://x/v1/chat/completions', [...head(), length], body),
    'an escaped letter': () => raw('POST /v1/chat/%63ompletions', [...head(), length], body),
    '100-continue': () => raw(call, [...head(), 'expect: 100-continue', length], body),
    'an upgrade that nobody asked for': () => raw(call, [...head().filter((line) => !line.startsWith('connection')), 'connection: close, upgrade', 'upgrade: h2c', length], body),
  } // prettier-ignore
  for (const [name, text] of Object.entries(taken)) {
    it(`is told from a good one: ${name}`, async () => {
      const { statuses, reached, text: answer } = await probe(text())
      assert.equal(statuses.at(-1), 200, answer)
      assert.equal(reached, 1)
    })
  }

  it('is not found in the trailers of another', async () => {
    const trailers = `${size}\r\n${body}\r\n0\r\nauthorization: Bearer ${key}\r\ncontent-length: 3\r\n\r\n`
    const { statuses } = await probe(
      raw(call, [...nobodys, 'content-type: application/json', chunked], trailers),
    )
    assert.deepEqual(statuses, [401])
  })

  it('is answered in its turn behind one that was refused', async () => {
    const inner = raw('GET /metrics', [...nobodys, `authorization: Bearer ${house.admin}`])
    const outer = raw(
      call,
      [...open, 'content-type: application/json', `content-length: ${inner.length}`],
      inner,
    )
    const { statuses, text } = await probe(outer + raw('GET /livez', nobodys))
    assert.deepEqual(statuses, [401, 200], 'the body of the first is no request')
    assert.ok(!text.includes('http_requests_total'))
  })

  it('comes in pieces, and is put together', async () => {
    const whole = raw(call, [...head(), length], body)
    const { statuses } = await probe(...whole.match(/[^]{1,7}/g)!)
    assert.deepEqual(statuses, [200])
  })
})

describe('what goes to the instance', () => {
  it('is the body, its type and the trace, and nothing else that the caller sent', async () => {
    const extra = [
      ...['cookie: session=1', 'x-api-key: other', 'proxy-authorization: Basic eA==', 'x-forwarded-for: 10.0.0.1'],
      ...['te: trailers', 'keep-alive: timeout=9', 'x-hop: 1', 'upgrade: h2c', 'user-agent: evil', 'origin: https://x.example'],
      ...['accept-encoding: gzip', 'range: bytes=0-1', 'x-autoglm-tenant: t', 'traceparent: 00-1', 'tracestate: a=b', 'referer: y'],
    ] // prettier-ignore
    const hop = head().map((line) => (line.startsWith('connection') ? 'connection: close, x-hop' : line))
    const { statuses } = await probe(raw(call, [...hop, ...extra, length], body))
    assert.deepEqual(statuses, [200])
    const names = Object.keys(fake.requests.at(-1)!.headers).sort()
    assert.deepEqual(names, ['connection', 'content-length', 'content-type', 'host', 'traceparent', 'tracestate', 'x-request-id']) // prettier-ignore
    assert.equal(fake.requests.at(-1)!.headers.connection, 'keep-alive')
  })
})

describe('another spelling of a path', () => {
  const ways: [target: string, statuses: readonly number[]][] = [
    ['//v1/models', [404]],
    ['//evil.example/v1/models', [404]],
    ['/v1//models', [404]],
    ['/livez/../v1/models', [404]],
    ['/livez/%2e%2e/v1/models', [404]],
    ['/v1%2fmodels', [404]],
    ['/V1/MODELS', [404]],
    ['/metrics;/livez', [404]],
    ['/v1/models;x', [404]],
    ['/docs/static/..%2f..%2f..%2fpackage.json', [400, 403, 404]],
    ['/docs/static/../../../package.json', [400, 403, 404]],
    ['/docs/static/%00', [400, 403, 404]],
    ['/docs/static/nothing.js', [404]],
    ['/docs/../metrics', [400, 404]],
    // These are the route, and ask for what it asks.
    ['/v1/models', [401]],
    ['/v1/%6dodels', [401]],
    ['/v1/models?/livez', [401]],
    ['/v1/models#/livez', [401]],
    ['http://evil.example/v1/models', [401]],
    ['HTTPS://evil.example/v1/models', [401]],
    ['/v1/models/..%2f..%2flivez', [401]],
    ['/v1/tasks/%2e%2e', [401]],
    ['/v1/tasks/%00', [401]],
    ['/v1/models/%zz', [400]],
    ['/v1/models/%ff', [400]],
    ['*', [400]],
    ['v1/models', [400]],
    ['\\v1\\models', [400]],
    ['ftp://x/v1/models', [400]],
  ]
  for (const [target, expected] of ways) {
    it(`leads past nothing: ${target}`, async () => {
      const { statuses, text } = await probe(raw(`GET ${target}`, nobodys))
      assert.ok(statuses.length === 1 && expected.includes(statuses[0]!), text)
      assert.ok(!/"devDependencies"|http_requests_total/.test(text))
    })
  }

  it('is no redirect to elsewhere', async () => {
    for (const target of ['/', 'http://evil.example/', 'http://evil.example', '//evil.example/..', '/docs//evil.example', '/docs/%2f%2fevil.example/']) {
      for (const host of ['x', 'evil.example']) {
        const { text } = await probe(raw(`GET ${target}`, [`host: ${host}`, 'x-forwarded-host: evil.example', 'connection: close']))
        const location = /^location: (.*)$/im.exec(text)?.[1]
        if (location !== undefined) assert.match(location, /^(\.?\/)?docs[/\w]*\r?$|^\.\/static/, target)
      }
    }
  }) // prettier-ignore

  it('of what is not there is told without its query', async () => {
    const { text } = await probe(raw('GET /v2/x?key=swordfish', nobodys))
    assert.match(text, /There is no route GET \/v2\/x\./)
    assert.ok(!text.includes('swordfish'))
  })
})

describe('a method', () => {
  const ways: [line: string, statuses: readonly number[]][] = [
    ['HEAD /livez', [200]],
    ['TRACE /v1/models', [405]],
    ['PROPFIND /v1/models', [405]],
    ['QUERY /v1/models', [405]],
    ['OPTIONS /v1/models', [405]],
    ['OPTIONS *', [404]],
    ['CONNECT evil.example:443', [400]],
    ['get /livez', [400]],
    ['HELLO /livez', [400]],
  ]
  for (const [line, expected] of ways) {
    it(`of which nothing comes: ${line}`, async () => {
      const { statuses, text } = await probe(raw(line, [...nobodys, 'cookie: a=swordfish']))
      assert.deepEqual(statuses, expected, text)
      assert.ok(!text.includes('swordfish'), 'a TRACE would give back what proxies added')
    })
  }

  it('HEAD has no body', async () => {
    const { text } = await probe(raw('HEAD /livez', open) + raw('GET /readyz', nobodys))
    assert.equal(text.match(/"status"/g)?.length, 1)
  })
})

describe('a flood', () => {
  it('of headers is refused, by their number and by their size', async () => {
    for (const count of [101, 150, 1_000]) {
      const many = Array.from({ length: count }, (_, n) => `x-${n}: y`)
      for (const lines of [
        [...many, ...nobodys],
        [...nobodys, ...many],
      ]) {
        const { statuses, text } = await probe(raw('GET /livez', lines))
        assert.deepEqual(statuses, [431], text)
      }
    }
    assert.deepEqual(
      (await probe(raw('GET /livez', [...nobodys, `x: ${'y'.repeat(20_000)}`]))).statuses,
      [431],
    )
    assert.deepEqual((await probe(raw(`GET /${'a'.repeat(20_000)}`, nobodys))).statuses, [431])
    const some = Array.from({ length: 90 }, (_, n) => `x-${n}: y`)
    assert.deepEqual((await probe(raw('GET /livez', [...nobodys, ...some]))).statuses, [200])
  })

  it('of a body that nobody may send is not read', async () => {
    const megabyte = Buffer.alloc(1_048_576, 0x20)
    for (const [line, more, status] of [
      [call, ['content-type: application/json'], 401],
      ['POST /v1/tasks', ['content-type: application/json'], 401],
      ['POST /v1/files', ['content-type: multipart/form-data; boundary=x'], 401],
      ['POST /v1/nothing', ['content-type: application/json'], 404],
      ['POST /livez', ['content-type: application/json'], 405],
      [call, ['content-type: application/json', `authorization: Bearer ${key}`], 413],
      [call, ['content-type: text/plain', `authorization: Bearer ${key}`], 415],
    ] as const) {
      for (const framing of ['content-length: 1000000000000', chunked]) {
        const lead = framing === chunked ? `${megabyte.length.toString(16)}\r\n` : ''
        const pieces = Array.from({ length: 5 }, (_, n) => (framing === chunked && n > 0 ? `\r\n${lead}` : ''))
        const flood = pieces.flatMap((piece) => (piece === '' ? [megabyte] : [piece, megabyte]))
        const { statuses, text } = await probe(raw(line, [...open, ...more, framing], lead), ...flood)
        assert.deepEqual(statuses, [status], `${line} ${framing}: ${text}`)
        assert.match(text, /^connection: close/im)
      }
    }
  }) // prettier-ignore

  it('that waits to be asked for its body is refused before it sends it', async () => {
    for (const [more, expected] of [
      [[], [401]],
      [[`authorization: Bearer ${key}`], [100, 413]],
    ] as const) {
      const lines = [...open, ...more, 'content-type: application/json', 'expect: 100-continue', 'content-length: 70000']
      assert.deepEqual((await probe(raw(call, lines))).statuses, expected)
    }
  }) // prettier-ignore
})

describe('a sender that is slow', () => {
  it('is let go, whatever it is slow with, and with or without a key', async () => {
    const starts = [
      'GET /livez HT',
      'GET /livez HTTP/1.1\r\nhost: x\r\nx-a',
      raw(call, [...open, 'content-type: application/json', `authorization: Bearer ${key}`, length], body.slice(0, 10)),
      raw(call, [...open, 'content-type: application/json', `authorization: Bearer ${key}`, chunked], `${size}\r\n${body.slice(0, 10)}`),
      raw('POST /v1/tasks', [...open, 'content-type: application/json', `authorization: Bearer ${await house.keyOf('t', ['tasks'])}`, length], '{'),
      raw('POST /v1/files', [...open, 'content-type: multipart/form-data; boundary=x', `authorization: Bearer ${await house.keyOf('t', ['tasks'])}`, length], '--x'),
    ] // prettier-ignore
    const answers = await Promise.all(starts.map((start) => probe(start)))
    for (const [at, { statuses, text }] of answers.entries()) {
      assert.deepEqual(statuses, [408], `${starts[at]}: ${text}`)
    }
  })
})
