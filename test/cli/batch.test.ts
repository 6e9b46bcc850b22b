import { strict as assert } from 'node:assert'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { runBatch, type BatchOptions } from '../../src/cli/batch-run.ts'
import { text } from 'node:stream/consumers'
import { Command, run as runAny } from './command.ts'

type Batch = Record<string, unknown> & { id: string; status: string }
type Handler = (request: IncomingMessage, response: ServerResponse, body: string) => boolean

/** OpenAI's batch API, as far as a client sees it: each look at the batch takes it one step on. */
class FakeBatches {
  url = ''
  uploads: string[] = []
  batches: Batch[] = []
  creations = 0
  keys: (string | undefined)[] = []
  /** States of the batch, one a look; the last one stays. */
  course: Partial<Batch>[] = [
    { status: 'in_progress', request_counts: { total: 3, completed: 1, failed: 0 } },
    { status: 'completed', request_counts: { total: 3, completed: 3, failed: 0 }, output_file_id: 'out' },
  ]
  files: Record<string, string> = { out: '{"custom_id":"1"}\n', bad: '{"custom_id":"2"}\n' }
  /** Answers in place of the rest, when it returns true. */
  meddle: Handler = () => false
  readonly server = createServer((request, response) => void this.#take(request, response))

  async start(port = 0): Promise<this> {
    await once(this.server.listen(port, '127.0.0.1'), 'listening')
    this.url = `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`
    return this
  }

  stop(): void {
    this.server.close()
    this.server.closeAllConnections()
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await text(request).catch(() => '')
    if (this.meddle(request, response, body)) return
    const { method = '', url = '' } = request
    const reply = (value: unknown, status = 200) => {
      response.writeHead(status, { 'content-type': 'application/json' })
      response.end(JSON.stringify(value))
    }
    const path = url.split('?')[0] ?? ''
    const id = path.split('/')[3] ?? ''
    if (method === 'POST' && path === '/v1/files') {
      this.keys.push(request.headers.authorization)
      return reply({ id: `file-${this.uploads.push(body)}` })
    }
    if (method === 'POST' && path === '/v1/batches') return reply(this.create(JSON.parse(body) as object))
    if (path === '/v1/batches') return reply({ data: this.batches.toReversed(), has_more: false })
    if (path.endsWith('/content')) return void response.end(this.files[id] ?? '')
    const batch = this.batches.find((known) => known.id === id)
    if (!batch) return reply({ error: { message: 'There is no such batch.' } }, 404)
    if (path.endsWith('/cancel')) this.course = [{ status: 'cancelled', output_file_id: 'out', request_counts: { total: 3, completed: 1, failed: 0 } }]
    else Object.assign(batch, this.course.length > 1 ? this.course.shift() : this.course[0])
    return reply(batch)
  } // prettier-ignore

  create(request: object): Batch {
    const batch = { id: `batch_${(this.creations += 1)}`, status: 'validating', ...request }
    this.batches.push(batch)
    return batch
  }
}

const line = (id: number, model = 'm') =>
  JSON.stringify({
    custom_id: String(id),
    method: 'POST',
    url: '/v1/completions',
    body: { model, prompt: 'x' },
  })

describe('autoglm batch', { concurrency: false }, () => {
  let fake: FakeBatches
  let cwd: string
  beforeEach(async () => {
    fake = await new FakeBatches().start()
    cwd = mkdtempSync(join(tmpdir(), 'autoglm-batch-'))
    writeFileSync(join(cwd, 'in.jsonl'), `${[1, 2, 3].map((id) => line(id)).join('\n')}\n`)
  })
  afterEach(() => {
    fake.stop()
    rmSync(cwd, { recursive: true })
  })
  const env = () => ({ AUTOGLM_URL: fake.url, AUTOGLM_API_KEY: 'k3y' })
  const run = (...args: string[]) => runAny(['batch', ...args], { cwd, env: env() })
  const read = (name: string) => readFileSync(join(cwd, name), 'utf8')
  const has = (name: string) => existsSync(join(cwd, name))

  it('uploads, waits, and fetches the results', async () => {
    const { code, stdout, stderr } = await run('in.jsonl')
    assert.equal(code, 0, stderr)
    assert.equal(stdout, 'results: in.output.jsonl\n')
    assert.match(stderr, /^uploading in\.jsonl\nbatch batch_1\nin_progress █{8}░{16} 33% 1 of 3 done\ncompleted █{24} 100% 3 of 3 done\n$/)
    assert.equal(read('in.output.jsonl'), fake.files['out'])
    assert.ok(!has('in.output.jsonl.state.json') && !has('in.output.jsonl.part') && !has('in.errors.jsonl'))
    assert.ok(fake.uploads[0]?.includes('name="purpose"\r\n\r\nbatch') && fake.uploads[0].includes(read('in.jsonl')))
    const { input_file_id, endpoint, completion_window } = fake.batches[0] as Batch
    assert.deepEqual([input_file_id, endpoint, completion_window], ['file-1', '/v1/completions', '24h'])
    assert.deepEqual(fake.keys, ['Bearer k3y'])

    // By mistake once more: what is there is not thrown away, and nothing is paid twice.
    const again = await run('in.jsonl')
    assert.match(again.stderr, /^error: in\.output\.jsonl is there already/)
    assert.equal(again.code, 1)
    assert.equal(fake.creations, 1)
  })

  it('tells lines that failed, and ends with 1', async () => {
    fake.course = [{ status: 'completed', request_counts: { total: 3, completed: 1, failed: 2 }, output_file_id: 'out', error_file_id: 'bad' }]
    const { code, stdout, stderr } = await run('in.jsonl', '--output', 'results.jsonl', '--model', 'llama')
    assert.equal(stdout, 'results: results.jsonl\nerrors: results.errors.jsonl\n')
    assert.match(stderr, /100% 1 of 3 done, 2 failed\n2 lines failed\n$/)
    assert.equal(code, 1)
    assert.equal(read('results.errors.jsonl'), fake.files['bad'])
    assert.ok(fake.uploads[0]?.includes([1, 2, 3].map((id) => line(id, 'llama')).join('\n')))
    assert.ok(!has('results.jsonl.state.json'))
  })

  it('tells why a file was refused', async () => {
    fake.course = [{ status: 'failed', errors: { data: [{ line: 2, message: 'The model is missing.' }, { message: 'Bad\u001b[2J.' }] } }]
    const { code, stderr } = await run('in.jsonl')
    assert.match(stderr, /error: line 2: The model is missing\.\nerror: Bad\[2J\.\nthe batch is failed/)
    assert.equal(code, 1)
  })

  it('outlasts a server that is away, busy, or breaks off', async () => {
    const troubles: Handler[] = [
      (_request, response) => (response.writeHead(503, { 'retry-after': '0' }).end('{}'), true),
      (request) => (request.socket.destroy(), true),
      (_request, response) => (response.writeHead(200, { 'content-length': '99' }).write('{"id":'), response.destroy(), true),
      (_request, response) => (response.writeHead(429).end('{"error":{"message":"later"}}'), true),
    ]
    const seen = new Map<string, number>()
    fake.meddle = (request, response, body) => {
      const step = request.method === 'GET' ? (request.url ?? '').split('?')[0] ?? '' : ''
      if (step === '') return false
      const times = (seen.get(step) ?? 0) + 1
      seen.set(step, times)
      return times <= 2 && (troubles[(seen.size + times) % troubles.length] as Handler)(request, response, body)
    }
    const { code, stderr } = await run('in.jsonl')
    assert.equal(code, 0, stderr)
    assert.match(stderr, /trying again/)
    assert.equal(read('in.output.jsonl'), fake.files['out'])
    assert.deepEqual([fake.uploads.length, fake.creations], [1, 1])
  })

  it('makes no second batch when the answer to the first was lost', async () => {
    fake.meddle = (request, _response, body) => {
      if (request.method !== 'POST' || request.url !== '/v1/batches' || fake.creations > 0) return false
      fake.create(JSON.parse(body) as object)
      request.socket.destroy()
      return true
    }
    const { code, stderr } = await run('in.jsonl')
    assert.equal(code, 0, stderr)
    assert.equal(fake.creations, 1)
  })

  /** A run that is killed, or stopped, once `pattern` was said. */
  const breakOff = async (signal: NodeJS.Signals, pattern: RegExp) => {
    const command = new Command(['batch', 'in.jsonl'], { cwd, env: env() })
    await command.says(pattern)
    command.kill(signal)
    return command.exit()
  }

  it('is picked up again after Ctrl-C, kill -9 and a restart of the server', async () => {
    const [first, last] = fake.course as [Partial<Batch>, Partial<Batch>]
    fake.course = [first]
    const stopped = await breakOff('SIGINT', /in_progress/)
    assert.equal(stopped.code, 130)
    assert.match(stopped.stderr, /stopped; the batch batch_1 goes on at the server\nRun the same command again/)
    assert.equal((await breakOff('SIGKILL', /in_progress/)).code, null)

    // Another run of the same name must not take its place.
    const other = await run('in.jsonl', '--model', 'other')
    assert.match(other.stderr, /^error: in\.output\.jsonl\.state\.json belongs to a batch that is not finished, with another model;/)
    const { port } = new URL(fake.url)
    const command = new Command(['batch', 'in.jsonl'], { cwd, env: env() })
    await command.says(/in_progress/)
    fake.stop()
    await command.says(/trying again/)
    const { batches, files } = fake
    fake = await Object.assign(new FakeBatches(), { batches, files, course: [last], creations: 1 }).start(Number(port))
    const { code, stderr, stdout } = await command.exit()
    assert.equal(code, 0, stderr)
    assert.equal(stdout, 'results: in.output.jsonl\n')
    assert.equal(fake.creations, 1)
    assert.equal(fake.uploads.length, 0)
  })

  it('looks for its batch when it was killed before it could write down the name', async () => {
    fake.course = fake.course.slice(0, 1)
    await breakOff('SIGKILL', /in_progress/)
    const file = 'in.output.jsonl.state.json'
    writeFileSync(join(cwd, file), JSON.stringify({ ...(JSON.parse(read(file)) as object), batchId: null }))
    fake.course = [{ status: 'completed', output_file_id: 'out' }]
    assert.equal((await run('in.jsonl')).code, 0)
    assert.deepEqual([fake.creations, fake.uploads.length], [1, 1])
  })

  it('is ended by --cancel, which fetches what is done', async () => {
    fake.course = fake.course.slice(0, 1)
    await breakOff('SIGINT', /in_progress/)
    const { code, stderr, stdout } = await run('in.jsonl', '--cancel')
    assert.match(stderr, /the batch is cancelled/)
    assert.equal(stdout, 'results: in.output.jsonl\n')
    assert.equal(code, 1)
    assert.match((await run('other.jsonl', '--cancel')).stderr, /^error: other\.jsonl can't be read/)
  })

  it('says what is wrong before it sends anything', async () => {
    writeFileSync(join(cwd, 'empty.jsonl'), '\n\n')
    writeFileSync(join(cwd, 'text.jsonl'), 'hello\n')
    writeFileSync(join(cwd, 'bare.jsonl'), '{"prompt":"x"}\n')
    writeFileSync(join(cwd, 'odd.jsonl'), `${line(1)}\n`)
    writeFileSync(join(cwd, 'odd.output.jsonl.state.json'), '{')
    const cases: [file: string, options: BatchOptions, message: RegExp][] = [
      ['none.jsonl', {}, /none\.jsonl can't be read \(ENOENT\); check the path$/],
      ['.', {}, / is not a file$/],
      ['empty.jsonl', {}, /empty\.jsonl is empty/],
      ['text.jsonl', {}, /^line 1 of \S*text\.jsonl is not a JSON object/],
      ['bare.jsonl', {}, /^the first line of \S*bare\.jsonl has no url/],
      ['odd.jsonl', {}, /odd\.output\.jsonl\.state\.json is not the state of a batch; delete it/],
      ['in.jsonl', { cancel: true }, /^no batch of \S*in\.jsonl is under way/],
      ['in.jsonl', { url: 'http://127.0.0.1:1' }, /^no server answers at http:\/\/127\.0\.0\.1:1/],
    ]
    for (const [file, options, message] of cases) {
      const name = 'SetupError'
      await assert.rejects(runBatch(join(cwd, file), { url: fake.url, ...options }), { name, message })
    }
    assert.equal(fake.uploads.length, 0)
    fake.meddle = (_request, response) => (response.writeHead(401).end('{}'), true)
    assert.match((await run('in.jsonl')).stderr, /refuses the request \(401\); check AUTOGLM_API_KEY/)
  })
}) // prettier-ignore
