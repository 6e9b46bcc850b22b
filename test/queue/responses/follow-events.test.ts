import { strict as assert } from 'node:assert'
import { getEventListeners } from 'node:events'
import { test } from 'node:test'
import fc from 'fast-check'
import { ResponseEventLog } from '../../../src/queue/responses/event-log.ts'
import { followEvents } from '../../../src/queue/responses/follow-events.ts'
import type { Store } from '../../../src/storage/store.ts'
import { ManualClock } from '../../helpers/clock.ts'

/** A stream that is over, whose events have these lengths; notes where each page begins. */
function makeStream(sizes: readonly number[]) {
  const types = sizes.map((_, index) => (index === sizes.length - 1 ? 'response.completed' : 'response.x'))
  const pieces = sizes.map((size, index) => `{"type":"${types[index]}","pad":"${'x'.repeat(size)}"}`)
  const readsAfter: number[] = []
  const store = {
    tasks: { find: () => Promise.resolve({ status: 'succeeded' }) },
    blobs: {
      read: (_id: string, after: number, limit: number) => {
        readsAfter.push(after)
        const found = pieces.map((piece, index) => ({ number: index + 1, bytes: Buffer.from(piece) }))
        return Promise.resolve(found.slice(after, after + limit))
      },
    },
    onWake: () => () => {},
  } as unknown as Store
  const clock = new ManualClock()
  const log = new ResponseEventLog({ store, clock, keepMs: () => 1_000 })
  return { pieces, readsAfter, parts: { store, log, clock } }
}

test('every event comes once and in order, and no page is more than a slow reader may hold', async () => {
  const size = fc.constantFrom(10, 1_000, 20_000, 200_000, 300_000)
  const arbitrary = fc.tuple(fc.array(size, { minLength: 1, maxLength: 60 }), fc.nat(5))
  await fc.assert(
    fc.asyncProperty(arbitrary, async ([sizes, after]) => {
      const { pieces, readsAfter, parts } = makeStream([...Array.from({ length: 300 }, () => 10), ...sizes])
      const followed = { taskId: 'task_a', tenant: 't', lead: ['created', 'queued'] }
      const seen: { sequenceNumber: number; packed: string }[] = []
      for await (const event of followEvents(parts, { followed, after }, new AbortController().signal))
        seen.push(event)
      const all = ['created', 'queued', ...pieces].map((packed, sequenceNumber) => ({
        sequenceNumber,
        packed,
      }))
      assert.deepEqual(seen, all.slice(after + 1))
      assert.deepEqual(followed.lead, [], 'what has been told is let go')
      for (const [index, from] of readsAfter.entries()) {
        const page = pieces.slice(from, readsAfter[index + 1] ?? pieces.length)
        const chars = page.join('').length
        assert.ok(page.length === 1 || chars <= 256 * 1024, `${page.length} events of ${chars} characters`)
      }
    }),
    { numRuns: 50 },
  )
})

test('a follower that waits for long leaves nothing on its signal, and ends when that is aborted', async () => {
  let looks = 0
  const store = {
    tasks: { find: () => Promise.resolve({ status: 'running' }) },
    blobs: {
      read: () => {
        looks += 1
        return Promise.resolve([])
      },
    },
    onWake: () => () => {},
  } as unknown as Store
  const clock = new ManualClock()
  const log = new ResponseEventLog({ store, clock, keepMs: () => 1_000 })
  const leave = new AbortController()
  const followed = { taskId: 'task_a', tenant: 't', lead: [] }
  const next = followEvents({ store, log, clock }, { followed, after: -1 }, leave.signal).next()
  for (let wait = 1; wait <= 30; wait += 1) {
    await new Promise((resolve) => setImmediate(resolve))
    clock.advance(1_000)
  }
  assert.ok(looks >= 30, `looked ${looks} times`)
  assert.equal(getEventListeners(leave.signal, 'abort').length, 1)
  leave.abort()
  assert.deepEqual(await next, { value: undefined, done: true })
  assert.equal(getEventListeners(leave.signal, 'abort').length, 0)
  assert.equal(clock.pending, 0)
})
