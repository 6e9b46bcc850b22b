import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { seedRandom } from '../../bench/simulation/random.ts'
import { StoreUnavailable } from '../../src/storage/store.ts'
import { finalStatuses, isFinal } from '../../src/storage/task-states.ts'
import { answerChat, chatEvent, FakeUpstream, sendJson, type Behaviour } from '../helpers/upstream.ts'
import { chatBody, chatTask } from '../helpers/task-spec.ts'
import { deafen, startWorker } from './harness.ts'

/** What an instance may do with one call; the first of them most of the time. */
const behaviours: readonly Behaviour[] = [
  answerChat(),
  answerChat(['one', ' two', ' three']),
  (_request, response) => sendJson(response, 500, {}),
  (_request, response) => sendJson(response, 429, {}, { 'retry-after': '1' }),
  (_request, response) => sendJson(response, 400, { error: { message: 'no' } }),
  (_request, _response, socket) => socket.destroy(),
  (_request, response, socket) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(`${chatEvent('a')}data: {"cut`)
    setImmediate(() => socket.destroy())
  },
  // Never ends: only a cancel, a deadline or a time limit gets rid of it.
  (_request, response) => void response.writeHead(200, { 'content-type': 'text/event-stream' }),
]

const seeds = [Number(process.env['AUTOGLM_TEST_SEED'] ?? 0) || Math.floor(Math.random() * 1e9), 7]

for (const seed of seeds) {
  test(`two workers, failing instances, a store that comes and goes, cancels: seed ${seed}`, async () => {
    const random = seedRandom(seed)
    await using upstream = await FakeUpstream.start((request, response, socket) => {
      const draw = Math.floor(random() ** 2 * behaviours.length)
      return behaviours[draw]?.(request, response, socket)
    })
    const settings = { leaseMs: 6_000, attemptTimeoutMs: 5_000, concurrencyMax: 8, attemptsMax: 4 }
    await using worker = await startWorker({ upstreams: { a: upstream.url }, settings, random })
    const { tasks } = worker.store
    const whole = { ...tasks }
    let isCalm = false
    const other = worker.beside({ store: deafen(worker.store), settings })
    await other.start()

    const count = 120
    const specs = Array.from({ length: count }, () => {
      const deadlineMs = random() < 0.1 ? worker.clock.wallMs() + 1 + Math.floor(random() * 20_000) : null
      const runAtMs = random() < 0.2 ? worker.clock.wallMs() + Math.floor(random() * 5_000) : null
      const body = chatBody({ max_tokens: 1 + Math.floor(random() * 100) })
      return chatTask({
        deadlineMs,
        runAtMs,
        band: Math.floor(random() * 101),
        work: { endpoint: '/v1/chat/completions', body },
      })
    })
    const submitted = await worker.queue.submitAll(specs)
    const ids = submitted.map((one) => (one as { task: { id: string } }).task.id)
    for (const name of ['claim', 'renew', 'settle', 'rescue', 'promote'] as const) {
      const act = whole[name] as (this: void, ...args: unknown[]) => Promise<never>
      const mayFail = (...args: unknown[]) =>
        !isCalm && random() < 0.1 ? Promise.reject(new StoreUnavailable('away')) : act(...args)
      Object.assign(tasks, { [name]: mayFail })
    }
    for (const id of ids)
      if (random() < 0.2)
        worker.clock.after(
          Math.floor(random() * 15_000),
          () => void whole.cancel('t', id, worker.clock.wallMs()),
        )

    let turns = 0
    await worker.until(
      'all tasks have ended',
      async () => {
        turns += 1
        if (turns === 60) isCalm = true
        assert(worker.dispatcher.running <= 8 && other.dispatcher.running <= 8)
        const counts = await whole.count('t')
        return finalStatuses.reduce((sum, status) => sum + counts[status], 0) === count
      },
      400,
    )

    for (const id of ids) {
      const detail = (await whole.get('t', id))!
      const { task, history, result } = detail
      assert(isFinal(task.status), `${id} is ${task.status}`)
      assert.equal(history.filter(({ status }) => isFinal(status)).length, 1, `${id} ended more than once`)
      assert.deepEqual(
        history.map(({ seq }) => seq),
        history.map((_, index) => index + 1),
      )
      assert(task.attempt <= task.attemptsMax)
      if (task.status === 'succeeded') assert(result !== null && JSON.parse(Buffer.from(result).toString()))
      if (task.status === 'dead') assert(task.error !== null)
    }
    await worker.until('nothing runs', () => worker.dispatcher.running + other.dispatcher.running === 0)
    await upstream.until(({ active }) => active === 0)
    for (const one of [worker, other]) for (const { inFlight } of one.registry.all) assert.equal(inFlight, 0)
  })
}
