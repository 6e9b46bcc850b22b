import { strict as assert } from 'node:assert'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { promisify } from 'node:util'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import OpenAI from 'openai'
import { chat, post, readMetric, upstream } from '../helpers/gateway.ts'
import { eventually, isAlive, Server } from '../helpers/server.ts'
import {
  answerChat,
  chatEvent,
  doneEvent,
  FakeUpstream,
  sendJson,
  type Behaviour,
} from '../helpers/upstream.ts'
import { PinnedClient, readProcess } from './pinned-client.ts'

const run = promisify(execFile)
const mainFile = join(import.meta.dirname, '../../src/main.ts')

const start = (config: object, processes = 2) =>
  Server.start({ config: { log: { level: 'info' }, ...config }, args: ['--processes', String(processes)] })

const inFlight = (server: Server, instance: string) =>
  readMetric(server.url, `autoglm_instance_in_flight{instance="${instance}"}`)

describe('several gateway processes', () => {
  it('serve on one port: the openai client is answered by both, /metrics counts all, the log has whole lines', async () => {
    await using model = await FakeUpstream.start(answerChat())
    await using server = await start({ upstreams: [upstream('a', model.url)] })
    assert.equal(server.gatewayPids().length, 2)
    assert.match(server.stdout, /2 gateway processes share the port/)
    const seen = new Map<string, number>()
    // A connection a request, as of many clients.
    const fetchOnce: typeof fetch = (input, init) =>
      fetch(input, {
        ...init,
        headers: { ...Object.fromEntries(new Headers(init?.headers)), connection: 'close' },
      })
    const client = new OpenAI({
      baseURL: `${server.url}/v1`,
      apiKey: 'none',
      fetch: fetchOnce,
      maxRetries: 0,
    })
    for (let i = 0; i < 10; i += 1) {
      const { response } = await client.chat.completions
        .create({ model: 'm', messages: [{ role: 'user', content: 'Hi' }] })
        .withResponse()
      const process = readProcess(response.headers.get('x-request-id'))
      seen.set(process, (seen.get(process) ?? 0) + 1)
    }
    assert.deepEqual([...seen.values()], [5, 5], 'connections are handed out in turn')
    const series = 'http_requests_total{method="POST",endpoint="/v1/chat/completions",status="200"}'
    for (const pinned of await PinnedClient.forEach(server.url, 2)) {
      await eventually('whichever is asked shows all', async () =>
        (await pinned.get('/metrics')).text.includes(`\n${series} 10\n`),
      )
      assert.equal((await pinned.get('/healthz')).status, 200)
      assert.equal((await pinned.get('/readyz')).status, 200)
      pinned[Symbol.dispose]()
    }
    for (const process of ['1', '2']) {
      const ended = await readMetric(server.url, `autoglm_process_requests{process="${process}"}`)
      assert.ok(ended >= 5)
    }
    await eventually(
      'all lines of the log are there',
      () => server.stderr.split('"msg":"request"').length === 11,
    )
    // Behind the last end of a line there may be a part of the next.
    for (const line of server.stderr.split('\n').slice(0, -1)) JSON.parse(line)
  })

  it('hold a limit together', async () => {
    await using model = await FakeUpstream.start(answerChat())
    const tenants = { default: { requestsPerMinute: 20 } }
    await using server = await start({ upstreams: [upstream('a', model.url)], tenants, limits: { burstMs: 60_000, dynamic: false } }) // prettier-ignore
    const clients = await PinnedClient.forEach(server.url, 2)
    const startedAt = performance.now()
    const statuses = await Promise.all(
      clients.map(async (client) => {
        const got: number[] = []
        for (let i = 0; i < 30; i += 1) got.push((await client.post('/v1/chat/completions', chat())).status)
        return got
      }),
    )
    for (const client of clients) client[Symbol.dispose]()
    const passed = statuses.map((got) => got.filter((status) => status === 200).length)
    const [one = 0, other = 0] = passed
    // One comes back every three seconds; what is leased here and wanted there may be held back for one.
    const most = 20 + Math.ceil((performance.now() - startedAt) / 3_000)
    assert.ok(one + other >= 18 && one + other <= most, `${one} + ${other} passed, ${most} at most`)
    assert.ok(one > 0 && other > 0, `${one} and ${other} passed`)
    assert.equal(model.requests.length, one + other)
  })

  it('lose only the connections of one that is killed under load; it is replaced, and all counts end at zero', async () => {
    const slowly: Behaviour = (request, response) =>
      void setTimeout(() => answerChat()(request, response, null as never), 30)
    await using model = await FakeUpstream.start(slowly)
    await using server = await start({ upstreams: [upstream('a', model.url)] })
    const [victim] = server.gatewayPids()
    let running = true
    const failures: { process: string; killed: boolean }[] = []
    let answered = 0
    let killedAt = 0
    const load = async () => {
      const client = new PinnedClient(server.url)
      while (running) {
        try {
          const { status } = await client.post('/v1/chat/completions', chat())
          if (status === 200) answered += 1
          else failures.push({ process: `${client.process} ${status}`, killed: killedAt > 0 })
        } catch {
          failures.push({ process: client.process, killed: killedAt > 0 })
        }
      }
      client[Symbol.dispose]()
    }
    const clients = Array.from({ length: 12 }, load)
    await eventually('there is load', () => answered > 50)
    await eventually('counts are seen', async () => (await inFlight(server, 'a')) > 6)
    const before = await readMetric(
      server.url,
      'http_requests_total{method="POST",endpoint="/v1/chat/completions",status="200"}',
    )
    killedAt = performance.now()
    process.kill(victim as number, 'SIGKILL')
    await server.hears('stderr', /another takes its place/)
    await server.hears('stderr', /gateway process serves/)
    const atReplacement = answered
    await eventually('the load goes on', () => answered > atReplacement + 100)
    running = false
    await Promise.all(clients)
    assert.ok(failures.length >= 1 && failures.length <= 12, `${failures.length} requests failed`)
    const lost = new Set(failures.map(({ process }) => process))
    assert.equal(lost.size, 1, `requests of ${[...lost].join(', ')} failed`)
    assert.ok(failures.every(({ killed }) => killed))
    await eventually('nothing is in flight', async () => (await inFlight(server, 'a')) === 0)
    assert.equal(await readMetric(server.url, 'autoglm_gateway_processes'), 2)
    assert.equal(await readMetric(server.url, 'autoglm_gateway_process_restarts_total'), 1)
    const after = await readMetric(
      server.url,
      'http_requests_total{method="POST",endpoint="/v1/chat/completions",status="200"}',
    )
    assert.ok(after > before, 'what the dead one had counted is still counted')
    assert.ok(!server.gatewayPids().includes(victim as number))
    assert.equal((await PinnedClient.forEach(server.url, 2)).length, 2)
  })

  it('leave nobody waiting who connects while one dies, or all of them, and keep the port', async () => {
    await using model = await FakeUpstream.start(answerChat())
    await using server = await start({ upstreams: [upstream('a', model.url)] })
    let running = true
    let answered = 0
    let broken = 0
    let hanging = 0
    const load = async () => {
      while (running) {
        const signal = AbortSignal.timeout(12_000)
        const headers = { connection: 'close' }
        await post(server.url, '/v1/chat/completions', chat(), { headers, signal }).then(
          (response) => response.arrayBuffer().then(() => (answered += 1)),
          (error: Error) => (error.name === 'TimeoutError' ? (hanging += 1) : (broken += 1)),
        )
        // While nobody listens, a refusal takes no time at all.
        if (broken > 0) await new Promise((resolve) => setTimeout(resolve, 5))
      }
    }
    const clients = Array.from({ length: 8 }, load)
    const replaced = () => server.stderr.split('gateway process serves').length - 1
    const goOn = async (from: number) => eventually('the load goes on', () => answered > from + 50)
    for (const victims of [1, 1, 1, 2]) {
      const before = replaced()
      await goOn(answered)
      for (const pid of server.gatewayPids().slice(0, victims)) process.kill(pid, 'SIGKILL')
      await eventually('they are replaced', () => replaced() === before + victims, 60_000)
      await goOn(answered)
    }
    running = false
    await Promise.all(clients)
    assert.equal(hanging, 0)
    await eventually('nothing is in flight', async () => (await inFlight(server, 'a')) === 0)
  })

  it('replace one that hangs', async () => {
    await using model = await FakeUpstream.start(answerChat())
    await using server = await start({ upstreams: [upstream('a', model.url)] })
    const [victim] = server.gatewayPids()
    process.kill(victim as number, 'SIGSTOP')
    await eventually('it is ended', () => !isAlive(victim as number), 60_000)
    await server.hears('stderr', /gateway process serves/)
    assert.match(server.stderr, /hangs; it is ended/)
    assert.equal((await PinnedClient.forEach(server.url, 2)).length, 2)
  })

  it('leave alone an instance that another of them has ejected, before it has failed them as well', async () => {
    await using bad = await FakeUpstream.start((_request, response) =>
      sendJson(response, 500, { error: 'no' }),
    )
    await using good = await FakeUpstream.start(answerChat())
    await using server = await start({
      upstreams: [upstream('bad', bad.url), upstream('good', good.url)],
      routing: { policy: 'round_robin' },
      health: { ejectAfterFailures: 3 },
    })
    const [one, other] = (await PinnedClient.forEach(server.url, 2)) as [PinnedClient, PinnedClient]
    while (bad.requests.length < 3) await one.post('/v1/chat/completions', chat())
    await server.hears('stderr', /instance ejected/)
    const known = bad.requests.length
    await eventually('ten requests in a row pass it by', async () => {
      const before = bad.requests.length
      for (let i = 0; i < 10; i += 1)
        assert.equal((await other.post('/v1/chat/completions', chat())).status, 200)
      return bad.requests.length === before
    })
    assert.notEqual(one.process, other.process)
    // After three failures of its own it would have ejected it anyway.
    assert.ok(bad.requests.length - known < 3, `${bad.requests.length - known} requests still went there`)
    assert.equal(await readMetric(server.url, 'autoglm_instance_ejected{instance="bad"}'), 1)
    for (const client of [one, other]) client[Symbol.dispose]()
  })

  it('finish what is under way at Ctrl-C, and leave nothing behind', async () => {
    const gate = Promise.withResolvers<void>()
    await using model = await FakeUpstream.start(async (_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write(chatEvent('a'))
      await gate.promise
      response.end(chatEvent('b') + doneEvent)
    })
    await using server = await start({ upstreams: [upstream('a', model.url)] })
    const clients = await PinnedClient.forEach(server.url, 2)
    const answers = clients.map((client) => client.post('/v1/chat/completions', chat({ stream: true })))
    await model.until(({ active }) => active === 2)
    const pids = server.gatewayPids()
    // A terminal sends it to the whole group.
    for (const pid of [server.child.pid as number, ...pids]) process.kill(pid, 'SIGINT')
    await server.hears('stdout', /stopping/)
    await eventually('the port is closed', () =>
      fetch(`${server.url}/livez`).then(
        () => false,
        () => true,
      ),
    )
    gate.resolve()
    for (const { text } of await Promise.all(answers)) assert.ok(text.endsWith(doneEvent))
    for (const client of clients) client[Symbol.dispose]()
    assert.deepEqual(await server.exit, { code: 0, signal: null })
    assert.deepEqual(pids.filter(isAlive), [])
    assert.ok(!server.stderr.includes('takes its place'))
  })

  it('end at once at the second Ctrl-C', async () => {
    await using model = await FakeUpstream.start(() => {})
    await using server = await start({ upstreams: [upstream('a', model.url)] })
    const asked = post(server.url, '/v1/chat/completions', chat()).catch(() => null)
    await model.until(({ active }) => active === 1)
    const pids = server.gatewayPids()
    server.child.kill('SIGINT')
    await server.hears('stdout', /stopping/)
    await new Promise((resolve) => setTimeout(resolve, 600))
    server.child.kill('SIGINT')
    assert.equal((await server.exit).code, 130)
    await asked
    await eventually('all have ended', () => !pids.some(isAlive))
  })

  it('end with the first process when that is killed, and so do the models', async () => {
    await using server = await Server.start({ args: ['--processes', '2'] })
    const pids = [...server.gatewayPids(), ...server.instancePids().values()]
    assert.equal(pids.length, 4)
    await server.kill()
    await eventually('nobody is left', () => !pids.some(isAlive))
  })

  it('refuse a revoked key soon, all of them', async () => {
    await using model = await FakeUpstream.start(answerChat())
    const folder = await mkdtemp(join(tmpdir(), 'autoglm-e2e-'))
    const config = { auth: { required: true }, upstreams: [upstream('a', model.url)], dataDir: folder }
    await writeFile(join(folder, 'autoglm.yaml'), JSON.stringify(config))
    const made = await run(process.execPath, [mainFile, ...'key create --direct --tenant default --role admin'.split(' ')], { cwd: folder }) // prettier-ignore
    const asAdmin = { authorization: `Bearer ${made.stdout.trim()}` }
    await using server = await Server.start({ folder, args: ['--processes', '2'] })
    const [one, other] = (await PinnedClient.forEach(server.url, 2)) as [PinnedClient, PinnedClient]
    const given = await one.post('/v1/admin/keys', { tenant: 'acme', roles: ['inference'] }, asAdmin)
    const { id, key } = JSON.parse(given.text) as { id: string; key: string }
    const headers = { authorization: `Bearer ${key}` }
    for (const client of [one, other]) {
      assert.equal((await client.post('/v1/chat/completions', chat(), headers)).status, 200, given.text)
    }
    await one.post(`/v1/admin/keys/${id}/revoke`, {}, asAdmin)
    const revokedAt = performance.now()
    for (const client of [one, other]) {
      await eventually('the key is refused', async () => {
        return (await client.post('/v1/chat/completions', chat(), headers)).status === 401
      })
    }
    // A second is what is promised; the rest is for a machine that has other things to do.
    const tookMs = performance.now() - revokedAt
    assert.ok(tookMs < 5_000, `${tookMs} ms`)
    for (const client of [one, other]) client[Symbol.dispose]()
    await server.kill()
    await rm(folder, { recursive: true })
  })

  it('take over a saved configuration, all of them', async () => {
    await using model = await FakeUpstream.start(answerChat())
    await using next = await FakeUpstream.start(answerChat(['next']))
    const config = { upstreams: [upstream('a', model.url)] }
    await using server = await start(config)
    const clients = await PinnedClient.forEach(server.url, 2)
    let running = true
    const statuses = new Set<number>()
    const load = clients.map(async (client) => {
      while (running) statuses.add((await client.post('/v1/chat/completions', chat())).status)
    })
    await writeFile(
      join(server.folder, 'autoglm.yaml'),
      JSON.stringify({ upstreams: [upstream('b', next.url)], routing: { aliases: { nick: 'm' } } }),
    )
    await server.hears('stdout', /configuration reloaded/)
    running = false
    await Promise.all(load)
    assert.deepEqual([...statuses], [200])
    const before = model.requests.length
    for (const client of clients) {
      assert.equal((await client.post('/v1/chat/completions', chat({ model: 'nick' }))).status, 200)
      client[Symbol.dispose]()
    }
    assert.equal(model.requests.length, before)
  })

  it('take tasks, show their progress and stream background responses', async () => {
    await using model = await FakeUpstream.start(answerChat(['one', ' two']))
    await using server = await start({ upstreams: [upstream('a', model.url)] })
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none' })
    for (let i = 0; i < 4; i += 1) {
      const types: string[] = []
      const stream = await client.responses.create({
        model: 'm',
        input: 'Hi',
        background: true,
        stream: true,
      })
      for await (const event of stream) types.push(event.type)
      assert.equal(types[0], 'response.created')
      assert.equal(types.at(-1), 'response.completed')
      assert.ok(types.includes('response.output_text.delta'))
    }
    const body = { endpoint: '/v1/chat/completions', body: chat() }
    const clients = await PinnedClient.forEach(server.url, 2)
    for (const pinned of clients) {
      const task = JSON.parse((await pinned.post('/v1/tasks', body)).text) as { id: string }
      for (const reader of clients) {
        const { text } = await reader.get(`/v1/tasks/${task.id}/events`)
        assert.match(text, /succeeded/, 'whoever is asked follows it to its end')
      }
    }
    for (const pinned of clients) pinned[Symbol.dispose]()
    await eventually('nothing is in flight', async () => (await inFlight(server, 'a')) === 0)
  })

  it('are replaced one by one at SIGTERM, without a failed request', async () => {
    await using model = await FakeUpstream.start(answerChat())
    await using server = await start({ upstreams: [upstream('a', model.url)] })
    let running = true
    const statuses = new Set<number>()
    const load = async () => {
      while (running) statuses.add((await post(server.url, '/v1/chat/completions', chat(), { headers: { connection: 'close' } })).status) // prettier-ignore
    }
    const clients = Array.from({ length: 4 }, load)
    const [first] = server.gatewayPids()
    process.kill(first as number, 'SIGTERM')
    await server.hears('stderr', /gateway process serves/)
    running = false
    await Promise.all(clients)
    assert.deepEqual([...statuses], [200])
    await eventually('the first has gone', () => !isAlive(first as number))
    assert.equal(server.gatewayPids().length, 2)
  })

  it('say which port is taken, and leave nothing running', async () => {
    const holder = createServer().listen(0, '127.0.0.1')
    await once(holder, 'listening')
    const { port } = holder.address() as { port: number }
    await using server = await Server.spawn({ args: ['--processes', '2', '--port', String(port)] })
    assert.equal((await server.exit).code, 1)
    assert.match(server.stderr, new RegExp(`error: Port ${port} on 127.0.0.1 is in use`))
    assert.equal(server.gatewayPids().length, 0)
    holder.close()
  })
})
