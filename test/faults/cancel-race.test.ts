import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { seedRandom } from '../../bench/simulation/random.ts'
import { isFinal, type TaskStatus } from '../../src/storage/task-states.ts'
import type { Server } from '../helpers/server.ts'
import { EventClient } from '../helpers/sse-client.ts'
import { FakeUpstream } from '../helpers/upstream.ts'
import { answer, instanceAt, markOf, TaskBench, type SeenTask } from './task-process.ts'

const seed = Number(process.env['TEST_SEED'] ?? Math.floor(Math.random() * 1e9))
const tasks = 200

async function turnsOfLoop(turns: number): Promise<void> {
  for (; turns > 0; turns -= 1) await new Promise((resolve) => setImmediate(resolve))
}

async function cancel({ url }: Server, id: string): Promise<SeenTask> {
  const response = await fetch(`${url}/v1/tasks/${id}/cancel`, { method: 'POST' })
  assert.equal(response.status, 200)
  return (await response.json()) as SeenTask
}

test(`cancels that race the end of their tasks: one end, the same wherever one looks (TEST_SEED=${seed})`, async (t) => {
  const random = seedRandom(seed)
  await using bench = await TaskBench.open()
  const gates = new Map<string, PromiseWithResolvers<void>>()
  const gateOf = (mark: string) => {
    const gate = gates.get(mark) ?? Promise.withResolvers<void>()
    gates.set(mark, gate)
    return gate.promise
  }
  await using model = await FakeUpstream.start(
    bench.counting(async (request, response, socket) => {
      await gateOf(markOf(request))
      return answer(request, response, socket)
    }),
  )
  const server = await bench.start({ upstreams: instanceAt(model.url) })
  const answers = new Map<string, TaskStatus>()
  const raceOne = async (mark: string, pause: { answer: number; cancel: number }) => {
    const id = await bench.submitOne(server, mark)
    await model.until(({ requests }) => requests.some((request) => markOf(request) === mark))
    const answering = turnsOfLoop(pause.answer).then(() => gates.get(mark)?.resolve())
    await turnsOfLoop(pause.cancel)
    answers.set(id, (await cancel(server, id)).status)
    await answering
  }
  let next = 0
  const race = async () => {
    while (next < tasks) {
      const mark = `task-${next}`
      next += 1
      // The way of a cancel is the longer one: through the API and the store to the worker.
      await raceOne(mark, { answer: Math.floor(random() ** 2 * 500), cancel: Math.floor(random() * 40) })
    }
  }
  await Promise.all(Array.from({ length: 8 }, race))
  await bench.finish(server)

  const seen: Record<string, number> = { succeeded: 0, cancelled: 0 }
  const listed = await listAll(server)
  for (const [id, told] of answers) {
    const task = await bench.get(server, id)
    const { status, history } = task
    seen[status] = (seen[status] ?? 0) + 1
    assert.ok(status === 'succeeded' || status === 'cancelled', `${id} is ${status}`)
    // What the cancel was told stands, where it was told of an end.
    if (isFinal(told)) assert.equal(told, status)
    assert.equal(history.filter((event) => isFinal(event.status)).length, 1)
    assert.equal(history.at(-1)?.status, status)
    assert.equal(task.result === null, status === 'cancelled')
    assert.equal(listed.get(id), status)
    await using events = await EventClient.open(`${server.url}/v1/tasks/${id}/events`)
    const [state, result] = (await events.rest()).slice(-2)
    assert.deepEqual(
      [state?.data['status'], result?.event, result?.data['status']],
      [status, 'result', status],
    )
  }
  assert.equal(listed.size, tasks)
  const { succeeded, cancelled, ...others } = await bench.counts(server)
  assert.deepEqual({ succeeded, cancelled }, seen)
  assert.deepEqual(Object.values(others).filter((count) => count > 0), []) // prettier-ignore
  assert.ok(Math.min(succeeded, cancelled) > 0, `there was no race: ${JSON.stringify(seen)}`)
  assert.equal((await bench.check()).duplicates, 0)
  t.diagnostic(JSON.stringify(seen))
})

async function listAll({ url }: Server): Promise<Map<string, TaskStatus>> {
  const found = new Map<string, TaskStatus>()
  for (let after = ''; ;) {
    const response = await fetch(`${url}/v1/tasks?limit=100${after}`)
    const page = (await response.json()) as { data: SeenTask[]; has_more: boolean; last_id: string }
    for (const { id, status } of page.data) found.set(id, status)
    if (!page.has_more) return found
    after = `&after=${page.last_id}`
  }
}
