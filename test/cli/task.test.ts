import { strict as assert } from 'node:assert'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { once } from 'node:events'
import { after, before, describe, it } from 'node:test'
import { listTasks, showTask } from '../../src/cli/task-list.ts'
import { submitTask } from '../../src/cli/task-submit.ts'
import { watchTask } from '../../src/cli/task-watch.ts'
import { makeSubmission, type SubmitOptions } from '../../src/cli/task-request.ts'
import { formatTask, readText, type ShownTask } from '../../src/cli/task-text.ts'
import { aTask, TaskServer } from '../helpers/task-server.ts'
import { Command, run as runAny } from './command.ts'

let server: TaskServer
before(async () => {
  server = await TaskServer.start()
})
after(() => server[Symbol.asyncDispose]())

const run = (args: string[], options: { input?: string; env?: Record<string, string> } = {}) =>
  runAny(['task', ...args], {
    cwd: '/',
    ...options,
    env: { AUTOGLM_URL: server.url, TZ: 'UTC', ...options.env },
  })
const submit = async (args: string[] = []): Promise<string> => {
  const { stdout, code, stderr } = await run(['submit', '--model', 'm', '--prompt', 'Hi', ...args])
  assert.equal(code, 0, stderr)
  return stdout.trim()
}

describe('what autoglm task submit sends', () => {
  const nowMs = Date.UTC(2026, 0, 1)
  const make = (text: string | null, options: SubmitOptions = {}) => makeSubmission(text, { options, source: 'f.json', nowMs })
  const chatBody = { model: 'm', messages: [] }
  const cases: [what: string, text: unknown, options: SubmitOptions, sent: object][] = [
    ['a quick question', null, { model: 'm', prompt: 'Hi' }, { endpoint: '/v1/chat/completions', body: { model: 'm', messages: [{ role: 'user', content: 'Hi' }] } }],
    ['a quick completion', null, { model: 'm', prompt: 'Hi', endpoint: '/v1/completions' }, { endpoint: '/v1/completions', body: { model: 'm', prompt: 'Hi' } }],
    ['a quick embedding', null, { model: 'm', prompt: 'Hi', endpoint: '/v1/embeddings' }, { endpoint: '/v1/embeddings', body: { model: 'm', input: 'Hi' } }],
    ['the body of a chat', chatBody, {}, { endpoint: '/v1/chat/completions', body: chatBody }],
    ['the body of a completion, for another model', { prompt: 'x', model: 'a' }, { model: 'b' }, { endpoint: '/v1/completions', body: { prompt: 'x', model: 'b' } }],
    ['any other body', { input: 'x' }, { endpoint: '/v1/embeddings' }, { endpoint: '/v1/embeddings', body: { input: 'x' } }],
    ['a whole task, with flags on top', aTask({ priority: 'low', metadata: { a: '1', b: '2' } }), { priority: 'high', metadata: ['b=3=4'] }, aTask({ priority: 'high', metadata: { a: '1', b: '3=4' } })],
    ['a sequence', { steps: [] }, { maxAttempts: '2' }, { steps: [], max_attempts: 2 }],
    ['times from now', { steps: [] }, { runAt: '90s', deadline: '+1d' }, { steps: [], run_at: nowMs / 1000 + 90, deadline: nowMs / 1000 + 86_400 }],
    ['times as they are', { steps: [] }, { runAt: '1767225600', deadline: '2026-02-01T00:00:00Z', priority: '30', webhook: 'https://e.com' }, { steps: [], run_at: 1_767_225_600, deadline: '2026-02-01T00:00:00Z', priority: 30, webhook: { url: 'https://e.com' } }],
  ]
  for (const [what, text, options, sent] of cases) {
    it(what, () => assert.deepEqual(make(text === null ? null : JSON.stringify(text), options), sent))
  }
  const mistakes: [text: string | null, options: SubmitOptions, message: RegExp][] = [
    [null, {}, /nothing to submit: name a file/],
    [null, { model: 'm' }, /nothing to submit/],
    ['{', {}, /f\.json is not JSON/],
    ['[]', {}, /must hold a JSON object/],
    ['{"input":"x"}', {}, /name it with --endpoint/],
    ['{"steps":[]}', { model: 'm' }, /--model can't be used here/],
    ['{"prompt":"x"}', { prompt: 'y' }, /--prompt and f\.json/],
    ['{"prompt":"x"}', { runAt: 'soon' }, /--run-at soon is not allowed/],
    ['{"prompt":"x"}', { maxAttempts: 'x' }, /--max-attempts x is not allowed/],
    ['{"prompt":"x"}', { metadata: ['x'] }, /--metadata x is not allowed/],
  ]
  for (const [text, options, message] of mistakes) {
    it(`refuses ${text} with ${JSON.stringify(options)}`, () => {
      assert.throws(() => make(text, options), { name: 'SetupError', message })
    })
  }
}) // prettier-ignore

describe('autoglm task', () => {
  it('submits, lists, shows, cancels and requeues', async () => {
    const id = await submit(['--priority', 'high', '--metadata', 'run=7', '--idempotency-key', 'k'])
    assert.match(id, /^task_\w+$/)
    const body = JSON.stringify({ model: 'm', prompt: 'x' })
    const [again, piped] = await Promise.all([
      run(['submit', '--model', 'm', '--prompt', 'Hi', '--priority', 'high', '--metadata', 'run=7', '--idempotency-key', 'k']),
      run(['submit', '-', '--json'], { input: body }),
    ])
    assert.equal(again.stdout.trim(), id)
    assert.match(again.stderr, /known already/)
    const second = JSON.parse(piped.stdout) as ShownTask
    assert.equal(second.endpoint, '/v1/completions')

    const [all, filtered, json, shown] = await Promise.all([
      run(['list']),
      run(['list', '--status', 'queued', '--metadata', 'run=7', '--limit', '1']),
      run(['list', '--json', '--oldest-first', '--limit', '1']),
      run(['show', id, '--body']),
    ])
    assert.match(all.stdout, new RegExp(`^ID +STATUS +PRIORITY +MODEL +ATTEMPTS +CREATED +ENDPOINT\n${second.id} +queued +normal +m +0 of 5 .*/v1/completions\n${id} +queued +high .*\n\n2 queued\n$`))
    assert.match(filtered.stdout, new RegExp(`ENDPOINT\n${id} .*\n\n2 queued\n$`))
    assert.equal((JSON.parse(json.stdout) as { tasks: ShownTask[] }).tasks[0]?.id, id)
    assert.match(shown.stdout, /^id: +task_[^]*priority: +high[^]*metadata: +run=7[^]*history:\n {2}\S+ \S+ queued\nbody:\n[^]*"content": "Hi"/)

    const cancelled = await run(['cancel', id, 'task_none', second.id])
    assert.equal(cancelled.stdout, `${id} cancelled\n${second.id} cancelled\n`)
    assert.match(cancelled.stderr, /^error: task_none: .*There is no task/)
    assert.equal(cancelled.code, 1)
    assert.deepEqual(await run(['requeue', id]), { code: 0, stdout: `${id} queued\n`, stderr: '' })
    assert.equal((await run(['requeue', id])).code, 1)
    await server.queue.cancel('default', id)
  })

  it('waits for the result with --wait, and tells a task that failed', async () => {
    const waiting = new Command(['task', 'submit', '--model', 'm', '--prompt', 'Hi', '--wait'], { cwd: '/', env: { AUTOGLM_URL: server.url } })
    await waiting.says(/queued/)
    await server.finish(await server.work(), { choices: [{ message: { content: 'Once upon a time.' } }] })
    const done = await waiting.exit()
    assert.equal(done.stdout, 'Once upon a time.\n')
    assert.match(done.stderr, /queued\n.* running, attempt 1\n.* succeeded, attempt 1 on u0\n$/)
    assert.equal(done.code, 0)

    const id = await submit()
    const { task } = await server.work()
    const outcome = { kind: 'dead', error: { code: 'internal', message: 'It \u001b[2Jbroke.' } } as const
    await server.store.tasks.settle([{ id, attempt: task.attempt, nowMs: Date.now(), instance: null, outcome }])
    const failed = await run(['watch', id])
    assert.equal(failed.stdout, '')
    assert.match(failed.stderr, /dead, attempt 1: It \[2Jbroke\. \(internal\)\n$/)
    assert.equal(failed.code, 1)
  })

  it('follows over broken connections, telling each state once', async () => {
    const proxy = await startProxy(server.url)
    const id = await submit()
    const watching = new Command(['task', 'watch', id, '--url', proxy.url], { cwd: '/' })
    await watching.says(/queued/)
    proxy.cut()
    const claimed = await server.work()
    await watching.says(/running/)
    proxy.down = true
    proxy.cut()
    await watching.says(/trying again/)
    proxy.down = false
    await server.finish(claimed)
    const { code, stdout, stderr } = await watching.exit()
    assert.equal(stdout, 'Hello.\n')
    assert.equal(code, 0)
    for (const state of ['queued', 'running', 'succeeded']) assert.equal(stderr.split(` ${state}`).length, 2, stderr)
    assert.ok(proxy.connections >= 3)
    proxy.close()
  })

  it('ends at Ctrl-C, and leaves the task alone', async () => {
    const id = await submit()
    const watching = new Command(['task', 'watch', id, '--url', server.url], { cwd: '/' })
    await watching.says(/queued/)
    watching.kill('SIGINT')
    const { code, stderr } = await watching.exit()
    assert.equal(code, 130)
    assert.match(stderr, /the task goes on/)
    assert.equal((await server.queue.get('default', id)).task.status, 'queued')
    await server.queue.cancel('default', id)
  })

  it('fails at once without a server, a file or a task', async () => {
    const { url } = server
    const mistakes: [run: () => Promise<number>, message: RegExp][] = [
      [() => watchTask('task_1', { url: 'http://127.0.0.1:1' }), /^no server answers at http:\/\/127\.0\.0\.1:1/],
      [() => watchTask('task_1', { url }), /answered 404: There is no task/],
      [() => showTask('task_none', { url }), /answered 404: There is no task/],
      [() => listTasks({ url, status: ['odd'] }), /answered 400: `status` must be one or more of/],
      [() => listTasks({ url, limit: '0' }), /^--limit 0 is not allowed/],
      [() => submitTask('/no/such/file.json', { url }), /^\/no\/such\/file\.json can't be read \(ENOENT\)/],
      [() => submitTask(undefined, { url, model: 'none', prompt: 'Hi' }), /answered 404: .*none/],
      [() => submitTask(undefined, { url, model: 'm', prompt: 'Hi', idempotencyKey: 'é' }), /^--idempotency-key must be/],
    ]
    for (const [attempt, message] of mistakes) await assert.rejects(attempt(), { name: 'SetupError', message })
  })
}) // prettier-ignore

/** A way to the server that can be cut, and closed for a while. */
async function startProxy(target: string) {
  const sockets = new Set<Socket>()
  const proxy = { url: '', down: false, connections: 0, cut: () => sockets.forEach((socket) => socket.destroy()), close: () => listener.close() } // prettier-ignore
  const listener = createServer((socket) => {
    if (proxy.down) return socket.destroy()
    proxy.connections += 1
    const { hostname, port } = new URL(target)
    const onward = connect(Number(port), hostname)
    for (const [from, to] of [[socket, onward], [onward, socket]] as const) {
      sockets.add(from)
      from.on('error', () => {}).on('close', () => to.destroy())
      from.pipe(to)
    } // prettier-ignore
    return undefined
  })
  await once(listener.listen(0, '127.0.0.1'), 'listening')
  proxy.url = `http://127.0.0.1:${(listener.address() as AddressInfo).port}`
  return proxy
}

describe('the text of a result', () => {
  it('is what a person asked for', () => {
    assert.equal(readText({ choices: [{ text: 'a' }] }), 'a')
    assert.equal(readText({ choices: [{ message: { content: 'b' } }] }), 'b')
    assert.equal(readText({ output: [{}, { content: [{ text: 'c' }, { text: 'd' }] }] }), 'cd')
    assert.equal(readText({ object: 'sequence', steps: [{ result: { choices: [{ text: 'e' }] } }, { result: { choices: [{ text: 'f' }] } }] }), 'f')
    assert.equal(readText(undefined), '')
    for (const odd of [null, 1, [], {}, { choices: 1 }, { choices: [] }, { choices: [{ message: { content: null } }] }, { output: 'x' }]) {
      assert.equal(readText(odd), JSON.stringify(odd, null, 2))
    }
  })
  it('can not write to the terminal what is no text', () => {
    const task = { id: 'a\u001b[31m', status: 'dead', endpoint: 'e', model: 'm\u0007', priority: 1, attempts: 1, max_attempts: 1, created_at: 0, run_at: null, deadline: null, started_at: null, finished_at: null, cancel_requested: false, batch: null, metadata: { 'k\u001b]0;x': 'v\r' }, error: null, usage: null, result: { choices: [{ text: 'x\u001b[2J\ny' }] } }
    // oxlint-disable-next-line no-control-regex
    assert.doesNotMatch(formatTask(task), /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/)
    assert.match(formatTask(task), /result:\n {2}x\[2J\n {2}y$/)
  })
}) // prettier-ignore
