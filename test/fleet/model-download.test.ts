import { strict as assert } from 'node:assert'
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { hostname, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, beforeEach, describe, it } from 'node:test'
import { systemClock, type Clock } from '../../src/core/clock.ts'
import { placeOfHubFile, resolveModelFile } from '../../src/fleet/model-file.ts'
import { makeGguf } from '../helpers/gguf.ts'

/** Time passes at once, so that no test waits for a retry. */
const hastyClock: Clock = { ...systemClock, sleep: async (_ms, signal) => signal?.throwIfAborted() }

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

let folder: string
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'autoglm-model-'))
})
after(() => rmSync(folder, { recursive: true }))

describe('a model file of a hub', () => {
  const content = makeGguf({ values: 50_000 })
  const source = 'hf:me/repo:a.gguf'
  let hub: Server
  let cdn: Server
  let endpoint: string
  let cdnUrl: string
  /** What the two servers do; each test sets its own. */
  let onHub: (request: IncomingMessage, response: ServerResponse) => void
  let onCdn: (request: IncomingMessage, response: ServerResponse) => void
  let requests: { host: 'hub' | 'cdn'; url: string; range: string | null; authorization: string | null }[]
  let dataDir: string
  let path: string

  const listen = async (name: 'hub' | 'cdn', handle: () => (request: IncomingMessage, response: ServerResponse) => void) => {
    const server = createServer((request, response) => {
      const { range = null, authorization = null } = request.headers
      requests.push({ host: name, url: request.url ?? '', range, authorization })
      handle()(request, response)
    })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
  } // prettier-ignore

  /** Sends the file, or what `range` asks of it. */
  const sendFile = (request: IncomingMessage, response: ServerResponse, body = content) => {
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
    const headers = { etag: '"tag"', 'content-length': body.length - from }
    if (from === 0) response.writeHead(200, headers)
    else
      response.writeHead(206, {
        ...headers,
        'content-range': `bytes ${from}-${body.length - 1}/${body.length}`,
      })
    response.end(body.subarray(from))
  }
  /** Sends `count` bytes from where the request wants them, then nothing; `hangUp` ends the connection. */
  let hangUp = () => {}
  const sendSome = (request: IncomingMessage, response: ServerResponse, count: number) => {
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
    response.writeHead(from === 0 ? 200 : 206, {
      etag: '"tag"',
      'content-length': content.length - from,
      ...(from === 0 ? {} : { 'content-range': `bytes ${from}-${content.length - 1}/${content.length}` }),
    })
    response.write(content.subarray(from, from + count))
    hangUp = () => response.destroy()
  }
  const redirect = (_request: IncomingMessage, response: ServerResponse) =>
    response
      .writeHead(302, { location: `${cdnUrl}/signed?x=1`, 'x-linked-etag': `"${sha256(content)}"`, 'x-linked-size': content.length })
      .end() // prettier-ignore

  before(async () => {
    requests = []
    ;({ server: hub, url: endpoint } = await listen('hub', () => onHub))
    ;({ server: cdn, url: cdnUrl } = await listen('cdn', () => onCdn))
  })
  after(() => {
    for (const server of [hub, cdn]) {
      server.close()
      server.closeAllConnections()
    }
  })
  beforeEach(() => {
    requests = []
    onHub = redirect
    onCdn = sendFile
    dataDir = mkdtempSync(join(folder, 'data-'))
    path = join(dataDir, 'models/me/repo/main/a.gguf')
  })

  const fetchModel = (options: Partial<Parameters<typeof resolveModelFile>[1]> = {}, wanted = source) =>
    resolveModelFile(wanted, { dataDir, clock: hastyClock, env: { HF_ENDPOINT: endpoint }, ...options })
  const left = () => readdirSync(dirname(path)).sort()
  const refuses = (message: RegExp, options?: Parameters<typeof fetchModel>[0], wanted?: string) =>
    assert.rejects(fetchModel(options, wanted), (error: Error) => {
      assert.equal(error.name, 'SetupError', error.stack)
      assert.match(error.message, message)
      assert.ok(!error.message.includes('t0ken'))
      return true
    })

  it('is downloaded once, with its checksum beside it, and told as it grows', async () => {
    const seen: number[] = []
    const file = await fetchModel({
      onProgress: ({ doneBytes, totalBytes }) => {
        assert.equal(totalBytes, content.length)
        seen.push(doneBytes)
      },
    })
    assert.deepEqual(file, { path, bytes: content.length, kind: 'hub', version: file.version })
    assert.equal(file.path, placeOfHubFile(dataDir, { user: 'me', repo: 'repo', revision: 'main', file: 'a.gguf' }))
    assert.deepEqual(readFileSync(path), content)
    assert.equal(readFileSync(`${path}.sha256`, 'utf8'), `${sha256(content)}  a.gguf\n# ${content.length} bytes\n`)
    assert.deepEqual(left(), ['a.gguf', 'a.gguf.sha256'])
    assert.equal(seen.at(-1), content.length)
    assert.deepEqual(requests.map(({ url }) => url), ['/me/repo/resolve/main/a.gguf', '/signed?x=1'])

    await fetchModel()
    assert.equal(requests.length, 2)
  }) // prettier-ignore

  it('is downloaded again when its length has changed since', async () => {
    await fetchModel()
    truncateSync(path, 100)
    await fetchModel()
    assert.deepEqual(readFileSync(path), content)
  })

  it('goes on where the connection broke off, more than once', async () => {
    let calls = 0
    onCdn = (request, response) => {
      calls += 1
      if (calls <= 7) sendSome(request, response, 20_000)
      else sendFile(request, response)
    }
    await fetchModel({ onProgress: () => hangUp() })
    assert.deepEqual(readFileSync(path), content)
    const ranges = requests.filter(({ host }) => host === 'cdn').map(({ range }) => range)
    assert.equal(ranges[0], null)
    assert.ok(
      ranges.length >= 8 && ranges.slice(1).every((range) => range?.startsWith('bytes=')),
      ranges.join(),
    )
  })

  it('goes on in a later process, and begins anew when the file has changed meanwhile', async () => {
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(`${path}.part`, content.subarray(0, 1000))
    writeFileSync(`${path}.part.etag`, '"tag"')
    await fetchModel()
    assert.equal(requests[1]?.range, 'bytes=1000-')

    rmSync(path)
    writeFileSync(`${path}.part`, 'old')
    writeFileSync(`${path}.part.etag`, '"old"')
    onCdn = (_request, response) => sendFile({ headers: {} } as IncomingMessage, response)
    await fetchModel()
    assert.deepEqual(readFileSync(path), content)
  })

  it('gets its name when all of it came before the process ended', async () => {
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(`${path}.part`, content)
    writeFileSync(`${path}.part.etag`, '"tag"')
    onCdn = (_request, response) =>
      response.writeHead(416, { 'content-range': `bytes */${content.length}` }).end('no more')
    await fetchModel()
    assert.deepEqual(left(), ['a.gguf', 'a.gguf.sha256'])
    assert.equal(requests.length, 2)
  })

  it('is thrown away when a piece of it was not what it seemed, and fetched whole', async () => {
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(`${path}.part`, Buffer.alloc(1000))
    writeFileSync(`${path}.part.etag`, '"tag"')
    await fetchModel()
    assert.deepEqual(readFileSync(path), content)
  })

  it('survives answers of 500, 502, 503 and 429', async () => {
    const answers = [500, 503, 429, 502]
    onCdn = (request, response) => {
      const status = answers.shift()
      if (status === undefined) sendFile(request, response)
      else response.writeHead(status, { 'retry-after': '1' }).end()
    }
    await fetchModel()
    assert.deepEqual(readFileSync(path), content)
  })

  it('is given up when nothing comes at all', async () => {
    onCdn = (_request, response) => response.destroy()
    await refuses(/^hf:me\/repo:a\.gguf could not be downloaded from http:\/\/127.*: UND_ERR_SOCKET\nCheck the network, set HF_ENDPOINT/)
    assert.equal(requests.filter(({ host }) => host === 'cdn').length, 5)
    assert.ok(!left().includes('a.gguf.lock'))
  }) // prettier-ignore

  it('is given up when every attempt begins anew and ends early', async () => {
    onCdn = (_request, response) => {
      response.writeHead(200, { 'content-length': content.length })
      response.write(content.subarray(0, 5000), () => response.destroy())
    }
    await refuses(/could not be downloaded/)
  })

  it('is refused when it is not what the hub promised', async () => {
    onCdn = (request, response) => sendFile(request, response, Buffer.alloc(content.length))
    await refuses(/^hf:me\/repo:a\.gguf: the file that came has the SHA-256 [0-9a-f]{64}, and the hub promised [0-9a-f]{64}$/)
    assert.deepEqual(left(), [])
  }) // prettier-ignore

  it('is refused when it is longer than the hub says', async () => {
    onCdn = (request, response) => sendFile(request, response, Buffer.concat([content, content]))
    await refuses(/the hub sent more than the \d+ bytes that the file has$/)
  })

  it('is refused when it is no model, and not kept', async () => {
    onHub = (request, response) => sendFile(request, response, Buffer.from('{"error": "no"}'))
    await refuses(/is not a GGUF file that can be read/)
    assert.deepEqual(left(), [])
  })

  it('is refused when a web page comes in its place', async () => {
    onCdn = (_request, response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<html>')
    await refuses(/answered with a web page instead of the file; a proxy or a login page is in between$/)
  })

  it('needs a hub that can be reached', async () => {
    await refuses(/could not be downloaded from http:\/\/127\.0\.0\.1:1: .*\nCheck the network/, { env: { HF_ENDPOINT: 'http://127.0.0.1:1' } })
    await refuses(/^HF_ENDPOINT is not a URL/, { env: { HF_ENDPOINT: 'hub' } })
  }) // prettier-ignore

  it('gives its token to the hub alone', async () => {
    await fetchModel({ env: { HF_ENDPOINT: endpoint, HF_TOKEN: 't0ken' } })
    assert.deepEqual(
      requests.map(({ authorization }) => authorization),
      ['Bearer t0ken', null],
    )
  })

  const statuses: readonly [
    status: number,
    headers: Record<string, string>,
    token: boolean,
    message: RegExp,
  ][] = [
    [401, {}, false, /\/me\/repo needs a token or does not exist \(401\); check the name, or set HF_TOKEN/],
    [403, {}, true, /^hf:me\/repo:a\.gguf: HF_TOKEN may not read http.*\/me\/repo \(403\); accept the terms/],
    [
      404,
      { 'x-error-code': 'RepoNotFound' },
      false,
      /\/me\/repo does not exist \(404\); check user and repo$/,
    ],
    [404, { 'x-error-code': 'RevisionNotFound' }, false, /\/me\/repo has no revision "main" \(404\)$/],
    [404, {}, false, /\/me\/repo has no file "a\.gguf" at main \(404\); its page lists the files$/],
    [410, {}, false, /answered 410; check the name of the file$/],
  ]
  for (const [status, headers, token, message] of statuses) {
    it(`is told as what it is when the hub answers ${status} ${Object.values(headers).join()}`, async () => {
      onHub = (_request, response) => response.writeHead(status, headers).end()
      await refuses(message, { env: { HF_ENDPOINT: endpoint, ...(token ? { HF_TOKEN: 't0ken' } : {}) } })
      assert.equal(requests.length, 1)
    })
  }

  it('may lead in no circle', async () => {
    onHub = (_request, response) => response.writeHead(302, { location: '/again' }).end()
    await refuses(/redirects more than 5 times/)
  })

  it('comes in all its parts', async () => {
    onCdn = sendFile
    const { path: first, bytes } = await fetchModel({}, 'hf:me/repo:b-00001-of-00002.gguf')
    assert.match(first, /b-00001-of-00002\.gguf$/)
    assert.equal(bytes, 2 * content.length)
  })

  it('is left when it is no longer wanted, and what came is kept', async () => {
    const wanted = new AbortController()
    onCdn = (_request, response) => {
      response.writeHead(200, { etag: '"tag"', 'content-length': content.length })
      response.write(content.subarray(0, 5000))
    }
    const reason = new Error('stop')
    const onProgress = () => wanted.abort(reason)
    await assert.rejects(fetchModel({ signal: wanted.signal, onProgress }), reason)
    assert.deepEqual(left(), ['a.gguf.part', 'a.gguf.part.etag'])
  })

  it('needs a folder that can be written', async () => {
    writeFileSync(join(dataDir, 'models'), 'a file in the way')
    await refuses(
      /^\/.*\/models\/me\/repo\/main cannot be made: ENOTDIR; choose another folder with --data-dir$/,
    )
  })

  describe('wanted by two at once', () => {
    it('is downloaded once', async () => {
      const [one, two] = await Promise.all([fetchModel({ clock: systemClock }), fetchModel({ clock: systemClock })])
      assert.deepEqual(one, two)
      assert.equal(requests.filter(({ host }) => host === 'cdn').length, 1)
    }) // prettier-ignore

    const lock = (holder: object) => {
      mkdirSync(dirname(path), { recursive: true })
      writeFileSync(`${path}.lock`, JSON.stringify(holder))
    }

    it('is not waited for when the other has died', async () => {
      const child = spawn(process.execPath, ['--version'])
      await once(child, 'exit')
      lock({ pid: child.pid, host: hostname(), id: 'x' })
      await fetchModel()
      assert.deepEqual(left(), ['a.gguf', 'a.gguf.sha256'])
    })

    it('is not waited for when the lock is of an earlier life of this process', async () => {
      lock({ pid: process.pid, host: hostname(), id: 'x' })
      await fetchModel()
      assert.deepEqual(left(), ['a.gguf', 'a.gguf.sha256'])
    })

    it('is not waited for when nobody has touched the lock for long', async () => {
      lock({ pid: 1, host: 'another', id: 'x' })
      utimesSync(`${path}.lock`, 1, 1)
      await fetchModel()
    })

    it('is waited for as long as the other lives, but not for ever', async () => {
      lock({ pid: 4711, host: 'another', id: 'x' })
      let now = 0
      const clock: Clock = {
        ...systemClock,
        now: () => now,
        // A minute for each look: an hour of them is no more than sixty.
        sleep: async (ms) => {
          now += Math.max(ms, 60_000)
        },
      }
      await refuses(/^process 4711 on another has been downloading .*a\.gguf for too long; end it, or remove .*\.lock$/, { clock })
      assert.ok(now >= 3_600_000)
    }) // prettier-ignore
  })
})
