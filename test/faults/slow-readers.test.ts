import { strict as assert } from 'node:assert'
import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import { chat, post } from '../helpers/gateway.ts'
import { eventually, type Server } from '../helpers/server.ts'
import { EventClient } from '../helpers/sse-client.ts'
import { answerChat, FakeUpstream, type Behaviour } from '../helpers/upstream.ts'
import { answer, instanceAt, markOf, TaskBench, type SeenTask } from './task-process.ts'

const readers = 80
/** More than the sockets of both sides hold, so that the server has to. */
const resultBytes = 8 * 2 ** 20
/** Longer than a busy machine takes to open as many of them as there is room for. */
const stallMs = 20_000

const residentMb = ({ child }: Server): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1]) / 1024

/** A client that reads the head of its answer, and nothing more. */
function openSlow(server: Server, path: string): Promise<Socket> {
  const { hostname, port, host } = new URL(server.url)
  const socket = connect({ host: hostname, port: Number(port) })
  socket.on('error', () => {})
  socket.write(`GET ${path} HTTP/1.1\r\nhost: ${host}\r\n\r\n`)
  return new Promise((resolve) => {
    socket.once('data', () => {
      socket.pause()
      resolve(socket)
    })
  })
}

/** The median time of a live request, of many. */
async function liveMs(server: Server): Promise<number> {
  const times: number[] = []
  for (let n = 0; n < 60; n += 1) {
    const startMs = performance.now()
    const response = await post(server.url, '/v1/chat/completions', chat())
    assert.equal(response.status, 200)
    await response.arrayBuffer()
    times.push(performance.now() - startMs)
  }
  return times.toSorted((a, b) => a - b)[30] as number
}

test(`${readers} readers of events that do not read`, async (t) => {
  await using bench = await TaskBench.open()
  const large = 'x'.repeat(2 ** 16)
  const behave: Behaviour = (request, response, socket) => {
    if (markOf(request) !== 'large') return answer(request, response, socket)
    return answerChat(Array.from({ length: resultBytes / large.length }, () => large))(
      request,
      response,
      socket,
    )
  }
  await using model = await FakeUpstream.start(behave)
  const server = await bench.start({ upstreams: instanceAt(model.url), timeouts: { idleMs: stallMs } })
  const id = await bench.submitOne(server, 'large')
  await bench.reach(server, id, 'succeeded')
  const path = `/v1/tasks/${id}/events`
  const read = async (headers: Record<string, string> = {}) => {
    await using events = await EventClient.open(server.url + path, headers)
    return await events.rest()
  }
  const whole = await read()
  const lastState = whole.at(-2)?.id ?? ''
  const result = whole.at(-1)?.data as unknown as SeenTask
  assert.equal(result.result?.choices[0]?.message.content.length, resultBytes)
  const calmMs = await liveMs(server)
  const calmMb = residentMb(server)

  let mostMb = 0
  const watch = setInterval(() => (mostMb = Math.max(mostMb, residentMb(server))), 20)
  const slow: Socket[] = []
  try {
    // A few at a time: reading the result costs memory, too, for a moment.
    for (let n = 0; n < readers; n += 1) slow.push(await openSlow(server, path))
    // Whoever comes for a large one now gets it as soon as those that take nothing are cut off.
    let late = await read({ 'last-event-id': lastState })
    assert.equal(late.length, 0, 'there was no lack of room: the test tests nothing')
    const busyMs = await liveMs(server)
    const small = await bench.submitOne(server, 'small')
    await using events = await EventClient.open(`${server.url}/v1/tasks/${small}/events`)
    assert.equal((await events.rest()).at(-1)?.event, 'result')
    const isThere = async () => {
      late = await read({ 'last-event-id': lastState })
      return late.length > 0
    }
    await eventually('there is room again', isThere, 3 * stallMs)
    assert.deepEqual(late, whole.slice(-1))
    t.diagnostic(
      `live median ${calmMs.toFixed(1)} -> ${busyMs.toFixed(1)} ms; ` +
        `${calmMb.toFixed(0)} -> ${mostMb.toFixed(0)} MB`,
    )
    assert.ok(
      busyMs < calmMs * 4 + 10,
      `a live request took ${calmMs} ms, and ${busyMs} ms beside the readers`,
    )
    assert.ok(mostMb - calmMb < 800, `the server grew from ${calmMb} to ${mostMb} MB`)
  } finally {
    clearInterval(watch)
    for (const socket of slow) socket.destroy()
  }
})
