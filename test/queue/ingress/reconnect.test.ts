import { strict as assert } from 'node:assert'
import test from 'node:test'
import pino from 'pino'
import { keepOpen, type Session } from '../../../src/queue/ingress/reconnect.ts'
import { ManualClock } from '../../helpers/clock.ts'
import { eventually } from '../../helpers/server.ts'

function begin(open: () => Promise<Session>) {
  const clock = new ManualClock()
  const stop = new AbortController()
  const states: boolean[] = []
  const levels: number[] = []
  const write = (line: string) => void levels.push((JSON.parse(line) as { level: number }).level)
  const log = pino({ level: 'debug' }, { write })
  const onChange = (connected: boolean) => void states.push(connected)
  const running = keepOpen({ open, clock, log, random: () => 1, onChange }, stop.signal)
  return { clock, stop, states, levels, running }
}

test('failures are further and further apart, and complained about once', async () => {
  let tries = 0
  const { clock, stop, levels, running } = begin(() => {
    tries += 1
    return Promise.reject(new Error('refused'))
  })
  for (const delayMs of [500, 1_000, 2_000, 4_000]) {
    const before = tries
    await eventually('it waits', () => clock.pending === 1)
    clock.advance(delayMs - 1)
    await new Promise((resolve) => setImmediate(resolve))
    assert.equal(tries, before)
    clock.advance(1)
    await eventually('it tries again', () => tries === before + 1)
  }
  stop.abort()
  await running
  assert.deepEqual(levels.slice(0, 4), [40, 20, 20, 20])
})

test('a session that ends at once is no fresh start; one that lasted is', async () => {
  let ends: PromiseWithResolvers<string>[] = []
  const { clock, stop, states, running } = begin(() => {
    const end = Promise.withResolvers<string>()
    ends.push(end)
    return Promise.resolve({ ended: end.promise, close: () => Promise.resolve() })
  })
  for (const delayMs of [500, 1_000, 2_000]) {
    await eventually('it is open', () => ends.length === 1)
    ends[0]?.resolve('broken')
    await eventually('it waits', () => clock.pending === 1)
    ends = []
    clock.advance(delayMs - 1)
    await new Promise((resolve) => setImmediate(resolve))
    assert.equal(ends.length, 0)
    clock.advance(1)
  }
  await eventually('it is open', () => ends.length === 1)
  clock.advance(10_000)
  ends[0]?.resolve('broken')
  await eventually('it waits', () => clock.pending === 1)
  ends = []
  clock.advance(500)
  await eventually('it is open', () => ends.length === 1)
  stop.abort()
  await running
  assert.equal(states.at(-1), false)
})

test('a stop while a connection is being opened does not wait, and closes what comes of it', async () => {
  const opening = Promise.withResolvers<Session>()
  const { stop, states, running } = begin(() => opening.promise)
  stop.abort()
  await running
  let isClosed = false
  opening.resolve({ ended: new Promise(() => {}), close: () => Promise.resolve(void (isClosed = true)) })
  await eventually('it is closed', () => isClosed)
  assert.deepEqual(states, [])
})
