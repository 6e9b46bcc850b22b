import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import fc from 'fast-check'
import { LiveBook } from '../../src/queue/live-signals.ts'
import { lookAtValley, newValley, valleyRules, type ValleySight } from '../../src/queue/valley.ts'
import { ManualClock } from '../helpers/clock.ts'

const quiet = { slowdown: 1, crowding: 0.5, seenAtMs: 0 }

const anySight = fc.record({
  stepMs: fc.integer({ min: 0, max: 5_000 }),
  capacity: fc.integer({ min: 0, max: 500 }),
  liveInFlight: fc.integer({ min: 0, max: 600 }),
  slowdown: fc.option(fc.double({ min: 0, max: 10, noNaN: true })),
  crowding: fc.option(fc.double({ min: 0, max: 10, noNaN: true })),
  isIdle: fc.boolean(),
})

test('whatever happens: never more than the reserve leaves, never nothing where there is room', () => {
  fc.assert(
    fc.property(
      fc.array(anySight, { maxLength: 60 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (sights, reserve) => {
        let state = newValley(0)
        let nowMs = 0
        for (const { stepMs, capacity, liveInFlight, isIdle, ...live } of sights) {
          nowMs += stepMs
          const seenAtMs = isIdle ? -Infinity : nowMs
          const looked = lookAtValley(
            state,
            { nowMs, capacity, liveInFlight, live: { ...live, seenAtMs } },
            { reserve },
          )
          state = looked.state
          const { tasksMax } = looked
          assert(Number.isInteger(tasksMax) && tasksMax >= 0)
          const isAlone = capacity > 0 && liveInFlight === 0
          assert(
            tasksMax + liveInFlight <= capacity * (1 - reserve) + 1e-6 ||
              tasksMax === 0 ||
              (isAlone && tasksMax === 1),
          )
          if (capacity * (1 - reserve) - liveInFlight >= 1) assert(tasksMax >= 1)
          if (isAlone) assert(tasksMax >= 1)
          assert(state.window >= 0 && state.window <= Math.max(1, state.window))
        }
      },
    ),
  )
})

/** Looks once a quarter of a second. */
function run(
  sightOf: (nowMs: number, tasks: number) => Partial<ValleySight>,
  ms: number,
  from = { state: newValley(0), nowMs: 0 },
) {
  let { state, nowMs } = from
  let tasks = 0
  const seen: number[] = []
  for (const untilMs = nowMs + ms; nowMs < untilMs; nowMs += 250) {
    const sight = {
      nowMs,
      capacity: 100,
      liveInFlight: 0,
      live: { ...quiet, seenAtMs: nowMs },
      ...sightOf(nowMs, tasks),
    }
    const looked = lookAtValley(state, sight, { reserve: 0.25 })
    ;({ state } = looked)
    tasks = looked.tasksMax
    seen.push(tasks)
  }
  return { state, nowMs, seen, tasks }
}

test('the window grows by additions, and fills an idle fleet in seconds', () => {
  const live = run(() => ({}), 60_000)
  assert.equal(live.tasks, 75)
  assert(live.seen[20]! < 40, 'too fast beside live requests')
  const idle = run(() => ({ live: { ...quiet, seenAtMs: -Infinity } }), 3_000)
  assert.equal(idle.tasks, 75)
})

for (const signal of ['slowdown', 'crowding'] as const) {
  test(`a rise of ${signal} halves the window once a second until it is over`, () => {
    const full = run(() => ({}), 60_000)
    const pressed = run((nowMs) => ({ live: { ...quiet, seenAtMs: nowMs, [signal]: 5 } }), 3_000, full)
    assert.deepEqual([...new Set(pressed.seen)], [37, 18, 9])
    const floor = run((nowMs) => ({ live: { ...quiet, seenAtMs: nowMs, [signal]: 5 } }), 20_000, pressed)
    assert.equal(floor.tasks, 4)
    const after = run(() => ({}), 60_000, floor)
    assert.equal(after.tasks, 75)
  })
}

test('live requests have the room as soon as they come', () => {
  const full = run(() => ({}), 60_000)
  assert.equal(run(() => ({ liveInFlight: 60 }), 250, full).tasks, 15)
  assert.equal(run(() => ({ liveInFlight: 90 }), 250, full).tasks, 0)
})

test('pressure that nobody is left to feel does not hold tasks back', () => {
  const pressed = run((nowMs) => ({ live: { slowdown: 9, crowding: 9, seenAtMs: nowMs } }), 20_000)
  const after = run(
    () => ({ live: { slowdown: 9, crowding: 9, seenAtMs: 20_000 } }),
    valleyRules.idleMs + 3_000,
    pressed,
  )
  assert.equal(after.tasks, 75)
})

test('the book of live requests: counts are exact, slower answers show, and tasks do not become what is usual', () => {
  const clock = new ManualClock()
  const book = new LiveBook(clock)
  const ask = (ttftMs: number) => {
    book.began('m')
    clock.advance(100)
    book.firstByte('m', ttftMs)
    book.ended('m', true)
  }
  assert.equal(book.look(['m']).slowdown, null)
  for (let i = 0; i < 200; i += 1) ask(100)
  assert(Math.abs(book.look(['m', 'other']).slowdown! - 1) < 0.01)
  for (let i = 0; i < 100; i += 1) ask(300)
  assert(book.look(['m']).slowdown! > 2.5)
  book.began('m')
  book.began('m')
  book.ended('m', false)
  assert.deepEqual([book.look(['m']).inFlight, book.look(['m']).waiting], [1, 1])
  for (let i = 0; i < 40; i += 1) book.began('m')
  clock.advance(5_000)
  assert(book.look(['m']).crowding! > 2)
  for (let i = 0; i < 41; i += 1) book.ended('m', false)
  clock.advance(20_000)
  const rested = book.look(['m'])
  assert.deepEqual([rested.inFlight, rested.waiting], [0, 0])
  assert(rested.crowding! < 1)
})
