import { strict as assert } from 'node:assert'
import { after, before, describe, it } from 'node:test'
import { createDatabase, makeStore, type TestDatabase } from '../helpers/postgres.ts'
import { eventually, type Server } from '../helpers/server.ts'
import { serviceSkip } from '../helpers/services.ts'
import { FakeUpstream, type Behaviour } from '../helpers/upstream.ts'
import { answer, instanceAt, TaskBench } from './task-process.ts'

const leaseMs = 1_000
const tasks = 2_000
const silence: Behaviour = () => {}

/** A store that is stopped at the end of its block. */
async function openStore(url: string) {
  const store = makeStore(url)
  await store.start()
  return Object.assign(store, { [Symbol.asyncDispose]: () => store.stop() })
}

/** A worker and the only instance it knows: what reaches that one comes from this worker. */
type Pair = { worker: Server; model: FakeUpstream } & AsyncDisposable

const skip = await serviceSkip('postgresql')

describe('workers on one PostgreSQL', { skip }, () => {
  let database: TestDatabase
  before(async () => {
    database = await createDatabase()
  })
  after(() => database.drop())

  const config = (model: FakeUpstream, concurrencyMax = 64) => ({
    storage: { url: database.url, connectionsMax: 4 },
    upstreams: instanceAt(model.url),
    queue: { leaseMs, concurrencyMax },
  })

  async function pair(bench: TaskBench, behave: Behaviour): Promise<Pair> {
    const model = await FakeUpstream.start(bench.counting(behave))
    const worker = await bench.start(config(model), 'worker')
    const dispose = async () => {
      await worker.kill()
      await model.stop()
    }
    return { worker, model, [Symbol.asyncDispose]: dispose }
  }

  /** Takes tasks and runs none of them. */
  const serve = (bench: TaskBench, model: FakeUpstream) => bench.start(config(model, 0))

  it(`share ${tasks} tasks, and one that is killed takes none with it`, async (t) => {
    await using bench = await TaskBench.open()
    let answered = 0
    let isHeld = false
    const untilHeld: Behaviour = (request, response, socket) => {
      if (isHeld) return undefined
      answered += 1
      return answer(request, response, socket)
    }
    await using a = await pair(bench, untilHeld)
    await using b = await pair(bench, answer)
    const server = await serve(bench, a.model)
    let sent = 0
    const submit = async () => {
      while (sent < tasks) await bench.submitOne(server, `task-${(sent += 1)}`)
    }
    const kill = async () => {
      await eventually('the first worker has done its part', () => answered > 300)
      // So that it dies with tasks in its hands.
      isHeld = true
      await a.model.until(({ active }) => active >= 8)
      await a.worker.kill()
    }
    await Promise.all([kill(), ...Array.from({ length: 24 }, submit)])
    await bench.finish(server, 30_000)
    assert.equal((await bench.counts(server)).succeeded, tasks)
    const byB = b.model.requests.length
    const verdict = await bench.check(() => openStore(database.url))
    assert.equal(verdict.acknowledged, tasks)
    assert.ok(verdict.duplicates >= 8, 'the tasks of the dead worker were not run again')
    t.diagnostic(`${answered} by the one that died, ${byB} by the other, ${verdict.duplicates} repeated`)
    await database.clear()
  })

  it('refuse the result of one that stood still past its lease', async () => {
    await using bench = await TaskBench.open()
    const letAnswer = Promise.withResolvers<void>()
    await using a = await pair(bench, async (_request, response) => {
      await letAnswer.promise
      return answer(
        { ..._request, json: { messages: [{ content: 'too late' }] } },
        response,
        response.socket!,
      )
    })
    const server = await serve(bench, a.model)
    const ids: string[] = []
    for (let n = 0; n < 6; n += 1) ids.push(await bench.submitOne(server, `task-${n}`))
    await a.model.until(({ active }) => active === ids.length)
    a.worker.child.kill('SIGSTOP')
    await using b = await pair(bench, answer)
    await bench.finish(server)
    assert.equal(b.model.requests.length, ids.length)
    letAnswer.resolve()
    a.worker.child.kill('SIGCONT')
    await eventually('it knows', () => a.worker.stderr.split('lease lost').length > ids.length)
    for (const id of ids) {
      const story = await bench.story(server, id)
      assert.deepEqual(story, ['queued 0', 'running 1', 'queued 1 worker_lost', 'running 2', 'succeeded 2'])
    }
    // It goes on as a worker like any other.
    await b.worker.kill()
    a.model.behave = bench.counting(answer)
    await bench.submitOne(server, 'afterwards')
    await bench.finish(server)
    const verdict = await bench.check(() => openStore(database.url))
    assert.equal(verdict.duplicates, ids.length)
    await database.clear()
  })

  it('hear within a second of a cancel that the server was asked for, and cut the call', async (t) => {
    await using bench = await TaskBench.open()
    await using a = await pair(bench, silence)
    const server = await serve(bench, a.model)
    const tookMs: number[] = []
    for (let n = 0; n < 5; n += 1) {
      const id = await bench.submitOne(server, `task-${n}`)
      await a.model.until(({ active }) => active === 1)
      const startMs = performance.now()
      const response = await fetch(`${server.url}/v1/tasks/${id}/cancel`, { method: 'POST' })
      assert.equal(((await response.json()) as { cancel_requested: boolean }).cancel_requested, true)
      await a.model.until(({ active, abandoned }) => active === 0 && abandoned === n + 1)
      tookMs.push(Math.round(performance.now() - startMs))
      await bench.reach(server, id, 'cancelled')
      assert.deepEqual(await bench.story(server, id), ['queued 0', 'running 1', 'cancelled 1 cancelled'])
    }
    t.diagnostic(`cut after ${tookMs.join(', ')} ms`)
    // The middle one, for others may work on the same cores.
    assert.ok(tookMs.toSorted((a, b) => a - b)[2]! < 1_000, `cut after ${tookMs.join(', ')} ms`)
    assert.equal((await bench.check(() => openStore(database.url))).duplicates, 0)
  })
})
