import { strict as assert } from 'node:assert'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { forkEngine, startEngine, tinyPath, toArguments } from '../helpers/engine.ts'

let folder: string
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'engine-'))
})
after(() => rm(folder, { recursive: true, force: true }))

/** The IPC message and the exit code of an engine that must not start. */
async function startFailing(args: readonly string[]) {
  const { child, exited, stderr } = forkEngine(args)
  const [message] = (await once(child, 'message')) as [{ type: string; message: string }]
  return { ...message, code: await exited, stderr: stderr() }
}

async function expectFailure(args: readonly string[], text: RegExp) {
  const failure = await startFailing(args)
  assert.equal(failure.type, 'failed')
  assert.match(failure.message, text)
  assert.equal(failure.code, 1)
  assert.equal(failure.stderr.trim(), failure.message, 'one sentence, no stack trace')
}

test('a missing model file is one sentence', () =>
  expectFailure(
    toArguments({ model: '/nowhere/none.gguf' }),
    /\/nowhere\/none\.gguf does not exist\. Check the path/,
  ))

test('a file that is no GGUF is one sentence', async () => {
  const path = join(folder, 'text.gguf')
  await writeFile(path, 'this is not a model')
  await expectFailure(toArguments({ model: path }), /is not a GGUF file/)
})

test('a GGUF file that was cut off is one sentence', async () => {
  const bytes = await readFile(tinyPath)
  for (const share of [0.01, 0.5, 0.999]) {
    const path = join(folder, `cut-${share}.gguf`)
    await writeFile(path, bytes.subarray(0, Math.floor(bytes.length * share)))
    await expectFailure(toArguments({ model: path }), /is broken or incomplete: download or make it again/)
  }
})

test('a port in use is one sentence', async () => {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await expectFailure(['--model', tinyPath, '--port', String(port)], /127\.0\.0\.1:\d+: it is in use/)
  server.close()
})

test('a wrong flag is one sentence', () =>
  expectFailure(['--model', tinyPath, '--port', 'x'], /--port is 'x'/))

test('an engine ends by itself when its parent is gone, also while it loads', async () => {
  const loading = forkEngine(toArguments({}))
  loading.child.disconnect()
  assert.equal(await loading.exited, 0)
  const ready = await startEngine()
  ready.child.disconnect()
  assert.equal(await ready.exited, 0)
})

test('a stale socket file is replaced, one in use is not', async () => {
  const socketPath = join(folder, 'engine.sock')
  await writeFile(socketPath, '')
  const engine = await startEngine({ socketPath })
  assert.deepEqual([engine.url, engine.socketPath], [null, socketPath])
  const health = await get(socketPath, '/health')
  assert.equal(health.status, 200)
  assert.deepEqual((health.body as { slots: unknown }).slots, { idle: 4, processing: 0, waiting: 0 })
  await expectFailure(toArguments({ socketPath }), /it is in use/)
  assert.equal(await engine.stop(), 0)
})

test('SIGTERM refuses new requests and finishes those in flight', async () => {
  const socketPath = join(folder, 'drain.sock')
  const engine = await startEngine({ socketPath })
  const open = stream(socketPath, { max_tokens: 400, ignore_eos: true })
  await open.firstChunk
  // A connection that is open already still gets its answer.
  engine.child.kill('SIGTERM')
  await until(async () => (await get(socketPath, '/health')).status === 503)
  const refused = await post(socketPath, { max_tokens: 1 })
  assert.deepEqual([refused.status, refused.code], [503, 'shutting_down'])
  assert.match(await open.whole, /\[DONE\]/)
  assert.equal(await engine.exited, 0)
})

test('a second signal forces', async () => {
  const socketPath = join(folder, 'force.sock')
  const engine = await startEngine({ socketPath })
  const open = stream(socketPath, { max_tokens: 400, ignore_eos: true })
  await open.firstChunk
  open.whole.catch(() => {})
  engine.child.kill('SIGTERM')
  await until(async () => (await get(socketPath, '/health')).status === 503)
  engine.child.kill('SIGTERM')
  assert.equal(await engine.exited, 1)
})

test('the waiting line is bounded: full is 503 with Retry-After', async () => {
  const socketPath = join(folder, 'line.sock')
  const engine = await startEngine({ socketPath, parallel: 1, waitingMax: 1 })
  const running = stream(socketPath, { max_tokens: 400, ignore_eos: true })
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
  await engine.stop()
})

test('a caller that leaves frees its sequence within 100 ms, streaming, waiting for the whole, or in a long prompt', async () => {
  const socketPath = join(folder, 'abort.sock')
  const engine = await startEngine({ socketPath, parallel: 2, contextTokens: 1024 })
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
  const metrics = await get(socketPath, '/metrics', false)
  assert.match(
    String(metrics.body),
    /engine_requests_total\{route="\/v1\/completions",status="499",model="tiny"\} 3/,
  )
  assert.match(String(metrics.body), /engine_sequences\{state="processing",model="tiny"\} 0/)
  assert.match(String(metrics.body), /engine_generated_tokens_total\{model="tiny"\} \d/)
  await engine.stop()
})

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
