import { strict as assert } from 'node:assert'
import { once } from 'node:events'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { DatabaseSync } from 'node:sqlite'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { seedRandom } from '../../bench/simulation/random.ts'
import { readMetric } from '../helpers/gateway.ts'
import { eventually, type Server } from '../helpers/server.ts'
import { EventClient } from '../helpers/sse-client.ts'
import { chatEvent, FakeUpstream, type Behaviour } from '../helpers/upstream.ts'
import { answer, instanceAt, TaskBench } from './task-process.ts'

const seed = Number(process.env['TEST_SEED'] ?? Math.floor(Math.random() * 1e9))

/** Never says anything. */
const silence: Behaviour = () => {}

const turnOfLoop = () => new Promise((resolve) => setImmediate(resolve))

/** What a task has gone through whose first attempt died with its server. */
const diedOnce = ['queued 0', 'running 1', 'queued 1 worker_lost', 'running 2', 'succeeded 2']

/** Takes connections, and not a byte of what comes through them. */
async function startDeaf(): Promise<{ url: string } & AsyncDisposable> {
  const sockets: Socket[] = []
  const server = createServer({ pauseOnConnect: true }, (socket) => void sockets.push(socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const dispose = async () => {
    // Nobody reads of their end.
    for (const socket of sockets) socket.destroy()
    server.close()
    await once(server, 'close')
  }
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}/v1`, [Symbol.asyncDispose]: dispose }
}

describe(`kill -9 of the server (TEST_SEED=${seed})`, () => {
  it('keeps what was acknowledged, and one task a key, when it is killed in the midst of submissions', async (t) => {
    const random = seedRandom(seed)
    await using bench = await TaskBench.open()
    await using model = await FakeUpstream.start(bench.counting(answer))
    let sent = 0
    let lost = 0
    for (let round = 0; round < 4; round += 1) {
      await using server = await bench.start({ upstreams: instanceAt(model.url) })
      const target = bench.ids.size + 20 + Math.floor(random() * 150)
      let isDead = false
      const submitUntilItDies = async () => {
        // First once more what the last server has left open: the client can't know whether it was taken.
        for (const mark of [...bench.unanswered]) await bench.submit(server, mark)
        while (!isDead) {
          sent += 1
          if ((await bench.submit(server, `task-${sent}`)) === null) lost += 1
        }
      }
      const killInTheMidst = async () => {
        await eventually('enough was acknowledged', () => bench.ids.size >= target)
        for (let turns = Math.floor(random() * 50); turns > 0; turns -= 1) await turnOfLoop()
        isDead = true
        await server.kill()
      }
      await Promise.all([killInTheMidst(), ...Array.from({ length: 8 }, submitUntilItDies)])
    }
    const server = await bench.start({ upstreams: instanceAt(model.url) })
    for (const mark of [...bench.unanswered]) await bench.submitOne(server, mark)
    // And once more what was acknowledged: the key still stands for it.
    for (const mark of [...bench.ids.keys()].slice(-50)) await bench.submitOne(server, mark)
    await bench.finish(server)
    const counts = await bench.counts(server)
    assert.equal(counts.succeeded, bench.ids.size, JSON.stringify(counts))
    const { duplicates, acknowledged } = await bench.check()
    assert.equal(acknowledged, sent)
    assert.ok(lost > 0, 'no submission was under way when the server died: the test tests half of it')
    t.diagnostic(`${sent} tasks, ${lost} submissions cut off, ${duplicates} executions repeated`)
  })

  /** Kills the server when `moment` has come; another one, with a model that is well, must finish the task at once. */
  async function dieAt(
    behave: Behaviour,
    moment: (server: Server, task: { id: string; model: FakeUpstream; bench: TaskBench }) => Promise<void>,
    firstUrl?: string,
  ): Promise<{ executions: number; story: string[] }> {
    await using bench = await TaskBench.open()
    await using model = await FakeUpstream.start(bench.counting(behave))
    const first = await bench.start({ upstreams: instanceAt(firstUrl ?? model.url) })
    const id = await bench.submitOne(first, 'it')
    await moment(first, { id, model, bench })
    await first.kill()
    model.behave = bench.counting(answer)
    const second = await bench.start({ upstreams: instanceAt(model.url) })
    await bench.finish(second)
    const story = await bench.story(second, id)
    assert.equal((await bench.get(second, id)).attempts, 2)
    const { duplicates } = await bench.check()
    return { executions: duplicates + 1, story }
  }

  it('goes on with a task that was claimed and had not reached the model', async () => {
    await using deaf = await startDeaf()
    const claimed = async (server: Server, { id, bench }: { id: string; bench: TaskBench }) => {
      await bench.reach(server, id, 'running')
    }
    assert.deepEqual(await dieAt(answer, claimed, deaf.url), { executions: 1, story: diedOnce })
  })

  it('goes on with a task that the model had not answered', async () => {
    const asked = (_server: Server, { model }: { model: FakeUpstream }) =>
      model.until(({ active }) => active === 1)
    assert.deepEqual(await dieAt(silence, asked), { executions: 2, story: diedOnce })
  })

  it('begins a task again whose answer broke off in mid-stream, and keeps nothing of the first half', async () => {
    const half: Behaviour = (_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write(chatEvent('A text that ') + chatEvent('does not '))
    }
    const midStream = async ({ url }: Server, { id }: { id: string }) => {
      await using events = await EventClient.open(`${url}/v1/tasks/${id}/events`)
      for (;;) {
        const event = await events.next()
        assert.ok(event, 'the stream of events has ended')
        if (event.event === 'progress') return
      }
    }
    assert.deepEqual(await dieAt(half, midStream), { executions: 2, story: diedOnce })
  })

  it('begins a task again whose answer had come and was not written down', async () => {
    const handle: { database?: DatabaseSync } = {}
    const finished = Promise.withResolvers<void>()
    const letAnswer = Promise.withResolvers<void>()
    const answerLate: Behaviour = async (request, response, socket) => {
      response.once('finish', finished.resolve)
      await letAnswer.promise
      return answer(request, response, socket)
    }
    const answered = async ({ url }: Server, { model, bench }: { model: FakeUpstream; bench: TaskBench }) => {
      await model.until(({ active }) => active === 1)
      // From here on nothing is written any more.
      const database = new DatabaseSync(join(bench.folder, 'data/autoglm.db'), { timeout: 5_000 })
      handle.database = database
      database.exec('BEGIN IMMEDIATE')
      letAnswer.resolve()
      await finished.promise
      const inFlight = 'autoglm_instance_in_flight{instance="up"}'
      await eventually('the server has the answer', async () => (await readMetric(url, inFlight)) === 0)
      setImmediate(() => database.close())
    }
    assert.deepEqual(await dieAt(answerLate, answered), { executions: 2, story: diedOnce })
    assert.equal(handle.database?.isOpen, false)
  })

  it('ends a task dead that takes its server with it each time, and runs it again when it is asked to', async () => {
    await using bench = await TaskBench.open()
    await using model = await FakeUpstream.start(bench.counting(silence))
    const config = { upstreams: instanceAt(model.url) }
    let id = ''
    for (let asked = 1; asked <= 2; asked += 1) {
      await using server = await bench.start(config)
      id = await bench.submitOne(server, 'poison', { max_attempts: 2 })
      await model.until(({ requests, active }) => requests.length === asked && active === 1)
      await server.kill()
      await model.until(({ active }) => active === 0)
    }
    model.behave = bench.counting(answer)
    const server = await bench.start(config)
    const dead = await bench.reach(server, id, 'dead')
    assert.equal(dead.error?.code, 'worker_lost')
    assert.equal(dead.attempts, 2)
    const response = await fetch(`${server.url}/v1/tasks/${id}/requeue`, { method: 'POST' })
    assert.equal(response.status, 200)
    assert.equal((await bench.reach(server, id, 'succeeded')).attempts, 3)
    assert.equal((await bench.check()).duplicates, 2)
  })
})
