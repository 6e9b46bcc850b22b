import { strict as assert } from 'node:assert'
import { once } from 'node:events'
import { spawn } from 'node:child_process'
import { link, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { parseOptions, type EngineOptions } from '../../engine/options.ts'
import { runInstance } from '../../engine/run.ts'
import { SetupError } from '../../src/core/errors.ts'
import {
  type EngineFlags,
  forkEngine,
  startEngine,
  type StartedEngine,
  tinyPath,
  toArguments,
} from '../helpers/engine.ts'

let folder: string
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'engine-'))
})
after(() => rm(folder, { recursive: true, force: true }))

/** Options of an engine on a free port, or on a socket. */
function makeOptions(options: EngineFlags): EngineOptions {
  return parseOptions(toArguments(options)) as EngineOptions
}

async function expectFailure(options: EngineOptions, text: RegExp) {
  await assert.rejects(runInstance(options), (error) => {
    assert.ok(error instanceof SetupError, String(error))
    assert.match(error.message, text)
    return true
  })
}

test('a program that fails to start says so in one sentence, and ends', async () => {
  const missing = toArguments({ model: '/nowhere/none.gguf' })
  for (const [args, text] of [
    [missing, /\/nowhere\/none\.gguf does not exist\. Check the path/],
    [['--model', tinyPath, '--port', 'x'], /--port is 'x'/],
  ] as const) {
    const { child, exited, stderr } = forkEngine(args)
    const [{ type, message }] = (await once(child, 'message')) as [{ type: string; message: string }]
    assert.equal(type, 'failed')
    assert.match(message, text)
    assert.equal(await exited, 1)
    assert.equal(stderr().trim(), message, 'one sentence, no stack trace')
  }
})

test('--help ends, also with a parent that stays', async () => {
  assert.equal(await forkEngine(['--help']).exited, 0)
})

test('a file that is no GGUF is one sentence', async () => {
  const path = join(folder, 'text.gguf')
  await writeFile(path, 'this is not a model')
  await expectFailure(makeOptions({ model: path }), /is not a GGUF file/)
})

test('a GGUF file that was cut off is one sentence', async () => {
  const bytes = await readFile(tinyPath)
  for (const share of [0.01, 0.5, 0.999]) {
    const path = join(folder, `cut-${share}.gguf`)
    await writeFile(path, bytes.subarray(0, Math.floor(bytes.length * share)))
    await expectFailure(makeOptions({ model: path }), /is broken or incomplete: download or make it again/)
  }
})

test('a port in use is one sentence', async () => {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const listen = { host: '127.0.0.1', port }
  await expectFailure({ ...makeOptions({}), listen }, /127\.0\.0\.1:\d+: it is in use/)
  server.close()
})

test('after a start that failed nothing keeps the process alive', async () => {
  const options = { ...makeOptions({}), listen: { socketPath: join(folder, 'no', 'folder.sock') } }
  const runPath = new URL('../../engine/run.ts', import.meta.url).href
  const script = `const { runInstance } = await import(${JSON.stringify(runPath)})
    await runInstance(${JSON.stringify(options)}).catch((error) => console.log(error.message))`
  await writeFile(join(folder, 'start.mjs'), script)
  const child = spawn(process.execPath, [join(folder, 'start.mjs')], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [out, [code]] = await Promise.all([child.stdout.toArray(), once(child, 'exit')])
  assert.equal(code, 0)
  assert.match(Buffer.concat(out as Buffer[]).toString(), /its folder does not exist/)
})

test('a file that is no socket is left alone', async () => {
  const socketPath = join(folder, 'notes.txt')
  await writeFile(socketPath, 'dear diary')
  await expectFailure(makeOptions({ socketPath }), /another kind of file is there/)
  assert.equal(await readFile(socketPath, 'utf8'), 'dear diary')
})

test('an engine ends by itself when its parent is gone, also while it loads', async () => {
  const loading = forkEngine(toArguments({}))
  loading.child.disconnect()
  assert.equal(await loading.exited, 0)
  const ready = await startEngine()
  ready.child.disconnect()
  assert.equal(await ready.exited, 0)
})

test('a second signal forces', async () => {
  const forced = join(folder, 'force.sock')
  const other = await startEngine({ socketPath: forced })
  const open = stream(forced, { max_tokens: 400, ignore_eos: true })
  await open.firstChunk
  open.whole.catch(() => {})
  other.child.kill('SIGTERM')
  await until(async () => (await get(forced, '/health')).status === 503)
  other.child.kill('SIGTERM')
  assert.equal(await other.exited, 1)
})

// From here on one engine serves all tests, and the last one ends it.
let engine: StartedEngine
let socketPath: string

test('a stale socket file is replaced, one in use is not', async () => {
  socketPath = join(folder, 'engine.sock')
  // A second name outlives the server, as the file of a killed process does.
  const killed = createServer().listen(join(folder, 'first.sock'))
  await once(killed, 'listening')
  await link(join(folder, 'first.sock'), socketPath)
  killed.close()
  await once(killed, 'close')
  engine = await startEngine({ socketPath, parallel: 1, waitingMax: 1, contextTokens: 1024 })
  assert.deepEqual([engine.url, engine.socketPath], [null, socketPath])
  const health = await get(socketPath, '/health')
  assert.equal(health.status, 200)
  assert.deepEqual((health.body as { slots: unknown }).slots, { idle: 1, processing: 0, waiting: 0 })
  await expectFailure(makeOptions({ socketPath }), /it is in use/)
})

test('the waiting line is bounded: full is 503 with Retry-After', async () => {
  const running = stream(socketPath, { max_tokens: 900, ignore_eos: true })
  await running.firstChunk
  const waiting = stream(socketPath, { max_tokens: 1 })
  await until(async () => (await slotsOf(socketPath)).waiting === 1)
  const refused = await post(socketPath, { max_tokens: 1 })
  assert.deepEqual([refused.status, refused.code, refused.retryAfter], [503, 'engine_overloaded', '1'])
  // One that leaves the line makes room for another.
  waiting.leave()
  await waiting.whole.catch(() => {})
  await until(async () => (await slotsOf(socketPath)).waiting === 0)
  assert.equal((await slotsOf(socketPath)).processing, 1)
  running.leave()
  await running.whole.catch(() => {})
  await until(async () => (await slotsOf(socketPath)).processing === 0)
})

test('a caller that leaves frees its sequence within 100 ms, streaming, waiting for the whole, or in a long prompt', async () => {
  const before = await countGone()
  const long = 'dog '.repeat(900)
  const requests = [
    { max_tokens: 900, ignore_eos: true, stream: true },
    { max_tokens: 900, ignore_eos: true, stream: false },
    { max_tokens: 100, ignore_eos: true, stream: false, prompt: long, n: 2 },
  ]
  for (const body of requests) {
    const open = stream(socketPath, body)
    await until(async () => (await slotsOf(socketPath)).processing > 0)
    const leftAtMs = performance.now()
    open.leave()
    await until(async () => (await slotsOf(socketPath)).processing === 0)
    const tookMs = performance.now() - leftAtMs
    assert.ok(tookMs < 100, `freed after ${tookMs.toFixed(0)} ms`)
    await open.whole.catch(() => {})
  }
  assert.equal((await countGone()) - before, 3)
  const { body: metrics } = await get(socketPath, '/metrics', false)
  assert.match(String(metrics), /engine_sequences\{state="processing",model="tiny"\} 0/)
  assert.match(String(metrics), /engine_generated_tokens_total\{model="tiny"\} \d/)
})

test('SIGTERM refuses new requests and finishes those in flight', async () => {
  const open = stream(socketPath, { max_tokens: 900, ignore_eos: true })
  await open.firstChunk
  // A connection that is open already still gets its answer.
  engine.child.kill('SIGTERM')
  await until(async () => (await get(socketPath, '/health')).status === 503)
  const refused = await post(socketPath, { max_tokens: 1 })
  assert.deepEqual([refused.status, refused.code], [503, 'shutting_down'])
  assert.match(await open.whole, /\[DONE\]/)
  assert.equal(await engine.exited, 0)
})

/** Requests whose caller has left, by the engine's own count. */
async function countGone(): Promise<number> {
  const { body } = await get(socketPath, '/metrics', false)
  const found = /engine_requests_total\{route="\/v1\/completions",status="499",model="tiny"\} (\d+)/.exec(
    String(body),
  )
  return Number(found?.[1] ?? 0)
}

/** Asks again, one answer after another, until `condition` holds. The test's own time limit is the bound. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setImmediate(resolve))
}

async function slotsOf(socketPath: string) {
  const { body } = await get(socketPath, '/health')
  return (body as { slots: { processing: number; waiting: number } }).slots
}

function get(socketPath: string, path: string, isJson = true): Promise<{ status: number; body: unknown }> {
  return new Promise((resolve, reject) => {
    request({ socketPath, path }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, body: isJson ? (JSON.parse(text) as unknown) : text }),
      )
    })
      .on('error', reject)
      .end()
  })
}

const head = { 'content-type': 'application/json' }

async function post(socketPath: string, body: object) {
  return new Promise<{ status: number; code: string; retryAfter: string | undefined }>((resolve, reject) => {
    const sent = request(
      { socketPath, path: '/v1/completions', method: 'POST', headers: head },
      (response) => {
        let text = ''
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
        response.on('end', () => {
          const { error } = JSON.parse(text) as { error?: { code: string } }
          const retryAfter = response.headers['retry-after']
          resolve({ status: response.statusCode ?? 0, code: error?.code ?? '', retryAfter })
        })
      },
    ).on('error', reject)
    sent.end(JSON.stringify({ model: 'tiny', prompt: 'Once', ...body }))
  })
}

/** A request whose answer comes piece by piece, and which can be left. */
function stream(socketPath: string, body: object) {
  let onFirst = () => {}
  const firstChunk = new Promise<void>((resolve) => (onFirst = resolve))
  const options = { socketPath, path: '/v1/completions', method: 'POST', headers: head }
  const sent = request(options)
  const whole = new Promise<string>((resolve, reject) => {
    sent.on('error', reject)
    sent.on('response', (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk
        onFirst()
      })
      response.on('end', () => resolve(text))
      response.on('error', reject)
    })
  })
  whole.catch(() => {})
  sent.end(JSON.stringify({ model: 'tiny', prompt: 'Once', stream: true, ...body }))
  return { firstChunk, whole, leave: () => sent.destroy() }
}
