import { strict as assert } from 'node:assert'
import { after, before, describe, it, mock } from 'node:test'
import { SlowReaders } from '../../src/gateway/slow-readers.ts'
import { StoreUnavailable } from '../../src/storage/store.ts'
import { ManualClock } from '../helpers/clock.ts'
import { post } from '../helpers/gateway.ts'
import { eventually } from '../helpers/server.ts'
import { EventClient, type SeenEvent } from '../helpers/sse-client.ts'
import { aTask, TaskServer } from '../helpers/task-server.ts'

let server: TaskServer
before(async () => {
  server = await TaskServer.start()
})
after(() => server[Symbol.asyncDispose]())

const submit = async (on = server): Promise<string> => {
  const response = await post(on.url, '/v1/tasks', aTask())
  assert.equal(response.status, 202)
  return ((await response.json()) as { id: string }).id
}
const events = (id: string, query = '', on = server) => `${on.url}/v1/tasks/${id}/events${query}`
const follow = async (id: string, lastEventId?: string): Promise<SeenEvent[]> => {
  const client = await EventClient.open(
    events(id),
    lastEventId === undefined ? {} : { 'last-event-id': lastEventId },
  )
  return client.rest()
}

/** A task with many states: it fails, is tried again, is cancelled, queued again, and succeeds. */
async function liveThrough(): Promise<string> {
  const id = await submit()
  for (let attempt = 1; attempt <= 3; attempt += 1) {
    const { task } = await server.work()
    assert.equal(task.id, id)
    const outcome = attempt < 3 ? ({ kind: 'retry', error: { code: 'upstream_failed', message: 'It broke.' }, runAtMs: Date.now() } as const) : ({ kind: 'dead', error: { code: 'internal', message: 'No more.' } } as const)
    await server.store.tasks.settle([{ id, attempt: task.attempt, nowMs: Date.now(), instance: 'u0', outcome }])
    await server.store.tasks.promote(Date.now() + 1_000, 10)
  }
  await server.queue.requeue('default', id)
  await server.finish(await server.work())
  return id
} // prettier-ignore

describe('GET /v1/tasks/{id}/events', () => {
  it('tells all states and the result, and resumes at every place', async () => {
    const id = await liveThrough()
    const whole = await follow(id)
    const states = whole.slice(0, -1)
    assert.ok(states.length >= 8, `${states.length} states`)
    assert.ok(states.every(({ event }) => event === 'state'))
    assert.deepEqual(states.map((state) => state.id), states.map((_, index) => String(index + 1)))
    const result = whole.at(-1) as SeenEvent
    assert.equal(result.event, 'result')
    assert.deepEqual(result.data, await (await fetch(`${server.url}/v1/tasks/${id}`)).json())
    assert.deepEqual(states.map(({ data: { task, ...event } }) => (assert.equal(task, id), event)), result.data['history'])

    for (let seen = 0; seen <= states.length; seen += 1) {
      assert.deepEqual(await follow(id, seen === 0 ? '' : String(seen)), whole.slice(seen))
      const byQuery = await EventClient.open(events(id, `?after=${seen}`), { 'last-event-id': '1' })
      assert.deepEqual(await byQuery.rest(), whole.slice(seen))
    }
    assert.equal((await fetch(events(id, `?after=${result.id}`))).status, 204)
    assert.equal((await fetch(events(id), { headers: { 'last-event-id': String(result.id) } })).status, 204)
  }) // prettier-ignore

  it('tells them as they happen, nothing twice and nothing left out, over broken connections too', async () => {
    const id = await submit()
    const seen: SeenEvent[] = []
    const see = async (client: EventClient) => {
      const event = await client.next()
      assert.ok(event)
      seen.push(event)
    }
    {
      await using first = await EventClient.open(events(id))
      await see(first)
    }
    // While nobody listens, it goes on.
    const claimed = await server.work()
    const progress = { event: 'progress', id: null, data: { completion_tokens: 7 } }
    {
      await using second = await EventClient.open(events(id), { 'last-event-id': '1' })
      await see(second)
      const next = second.next()
      server.progress.note(id, 7)
      assert.deepEqual(await next, progress)
    }
    await using third = await EventClient.open(events(id), { 'last-event-id': '2' })
    assert.deepEqual(await third.next(), progress, 'who comes late is told how far it is')
    await server.finish(claimed)
    seen.push(...(await third.rest()))
    assert.deepEqual(seen, await follow(id))
    assert.deepEqual(seen.map(({ data }) => data['status']), ['queued', 'running', 'succeeded', 'succeeded'])
  }) // prettier-ignore

  it('goes on with a task that was queued again after its result', async () => {
    const id = await submit()
    await server.queue.cancel('default', id)
    const before = await follow(id)
    assert.equal(before.at(-1)?.id, '2.1')
    await server.queue.requeue('default', id)
    await using client = await EventClient.open(events(id), { 'last-event-id': '2.1' })
    assert.equal((await client.next())?.data['status'], 'queued')
    await server.finish(await server.work())
    assert.deepEqual((await client.rest()).map((event) => event.data['status']), ['running', 'succeeded', 'succeeded'])
  }) // prettier-ignore

  const places = ['x', '-1', '1.2', '1.1.1', '1e3', '٣', '9'.repeat(20), '1,2']
  for (const place of places) {
    it(`refuses the place ${place}`, async () => {
      const response = await fetch(events(await submit(), `?after=${encodeURIComponent(place)}`))
      assert.equal(response.status, 400)
      assert.equal(((await response.json()) as { error: { param: string } }).error.param, 'after')
    })
  }

  it('says what went wrong when it does so in the middle', async () => {
    const id = await submit()
    await using client = await EventClient.open(events(id))
    await client.next()
    const away = mock.method(server.store.tasks, 'eventsAfter', () =>
      Promise.reject(new StoreUnavailable('away')),
    )
    await server.queue.cancel('default', id)
    const last = await client.next()
    away.mock.restore()
    assert.ok(last)
    assert.equal(last.event, 'error')
    assert.equal((last.data['error'] as { code: string }).code, 'storage_unavailable')
    assert.equal(await client.next(), null)
  })
})

/** Counts those who follow at this moment. */
function countFollowers(on: TaskServer): { readonly count: number } {
  const counter = { count: 0 }
  const follow = on.queue.follow.bind(on.queue)
  on.queue.follow = async function* counted(...args) {
    counter.count += 1
    try {
      yield* follow(...args)
    } finally {
      counter.count -= 1
    }
  }
  return counter
}

describe('those who follow a task', () => {
  it('are forgotten as soon as they hang up', async () => {
    await using one = await TaskServer.start()
    const followers = countFollowers(one)
    const id = await submit(one)
    const clients = await Promise.all(Array.from({ length: 20 }, () => EventClient.open(events(id, '', one))))
    await Promise.all(clients.map((client) => client.next()))
    await eventually('all follow', () => followers.count === 20, 30_000)
    for (const client of clients) client.close()
    await eventually('nobody follows', () => followers.count === 0, 30_000)
  })

  it('hear that the server stops, and it does not wait for them', async () => {
    await using one = await TaskServer.start()
    const id = await submit(one)
    const response = await fetch(events(id, '', one))
    const reader = (response.body as ReadableStream<Uint8Array>)
      .pipeThrough(new TextDecoderStream())
      .getReader()
    let text = ''
    const readOn = async () => {
      const { value = '', done } = await reader.read()
      text += value
      return !done
    }
    while (!text.includes('id: 1')) await readOn()
    await one.gateway.stop()
    while (await readOn()) continue
    assert.match(text, /id: 1\n[^]*: the server is stopping[^\n]*\nretry: 1000\n\n$/)
  })

  it('come back for a result for which there is no room yet', async () => {
    await using one = await TaskServer.start()
    const id = await submit(one)
    await one.finish(await one.work())
    const send = mock.method(SlowReaders.prototype, 'send', () => Promise.resolve(false))
    const text = await (await fetch(events(id, '', one))).text()
    send.mock.restore()
    assert.match(text, /id: 3\n[^]*: too many results wait for slow readers[^\n]*\nretry: 1000\n\n$/)
    await using client = await EventClient.open(events(id, '?after=3', one))
    assert.equal((await client.next())?.event, 'result')
  })

  it('get a sign of life while nothing happens', async () => {
    const clock = new ManualClock()
    await using one = await TaskServer.start({ clock, config: { timeouts: { idleMs: 5_000 } } })
    const followers = countFollowers(one)
    const id = await submit(one)
    const response = await fetch(events(id, '', one))
    const reader = (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream()).getReader()
    let text = ''
    while (!text.includes('id: 1')) text += (await reader.read()).value
    clock.advance(15_000)
    while (!text.endsWith(': still here\n\n')) text += (await reader.read()).value
    clock.advance(15_000)
    const beat = await reader.read()
    assert.equal(beat.value, ': still here\n\n')
    await reader.cancel()
    await eventually('nobody follows', () => followers.count === 0, 30_000)
  }) // prettier-ignore
})
