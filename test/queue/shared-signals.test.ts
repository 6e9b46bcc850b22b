import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { LiveBook } from '../../src/queue/live-signals.ts'
import { hostNews, NewsDesk, ToldProgress } from '../../src/queue/news.ts'
import { ProgressBoard } from '../../src/queue/progress.ts'
import { hostSignals, ToldLiveBook } from '../../src/queue/shared-signals.ts'
import { ManualClock } from '../helpers/clock.ts'
import { arrived, joinWires } from '../helpers/wires.ts'

test('live requests of another process count where tasks are given out, and end with it', async () => {
  const [here, there] = joinWires()
  const clock = new ManualClock()
  const book = new LiveBook(clock)
  hostSignals(there, book)
  const told = new ToldLiveBook({ wire: here, clock })
  await told.start()
  const look = async () => {
    clock.advance(20)
    await arrived(here)
    const { inFlight, waiting } = book.look(['m'])
    return { inFlight, waiting }
  }
  for (let i = 0; i < 3; i += 1) told.began('m')
  told.firstByte('m', 40)
  assert.deepEqual(await look(), { inFlight: 3, waiting: 2 })
  // Begun and ended between two tellings.
  told.began('m')
  told.ended('m', false)
  told.ended('m', true)
  assert.deepEqual(await look(), { inFlight: 2, waiting: 2 })
  assert.equal(told.look(['m']).inFlight, 2)
  told.firstByte('m', 60)
  assert.deepEqual(await look(), { inFlight: 2, waiting: 1 })
  here.close()
  await there.closed
  await new Promise((resolve) => setImmediate(resolve))
  assert.deepEqual(await look(), { inFlight: 0, waiting: 0 })
  await told.stop()
})

test('averages over what is told together are those of the samples', async () => {
  const [here, there] = joinWires()
  const clock = new ManualClock()
  const book = new LiveBook(clock)
  hostSignals(there, book)
  const told = new ToldLiveBook({ wire: here, clock })
  await told.start()
  const answer = async (times: number, ttftMs: number) => {
    for (let i = 0; i < times; i += 1) {
      told.began('m')
      told.firstByte('m', ttftMs)
      told.ended('m', true)
    }
    clock.advance(20)
    await arrived(here)
  }
  await answer(20, 100)
  await answer(60, 300)
  const { slowdown } = book.look(['m'])
  assert.ok(slowdown !== null && slowdown > 2.5, `slower by ${slowdown}`)
  await told.stop()
})

test('progress is told to those who follow, and nobody is asked when nobody does', async () => {
  const [here, there] = joinWires()
  const clock = new ManualClock()
  const board = new ProgressBoard(clock)
  const sources = {
    progress: (id: string, tell: (tokens: number | null) => void) =>
      board.watch(id, () => tell(board.read(id))),
    events: () => () => {},
  }
  hostNews(there, sources, clock)
  const progress = new ToldProgress(new NewsDesk(here), clock)
  const seen: (number | null)[] = []
  const unwatch = progress.watch('t', () => seen.push(progress.read('t')))
  const other = progress.watch('t', () => {})
  await arrived(here)
  for (const tokens of [1, 2, 3]) board.note('t', tokens)
  board.note('unfollowed', 9)
  clock.advance(20)
  await arrived(there)
  assert.deepEqual(seen, [3], 'what comes together is told once')
  unwatch()
  assert.equal(progress.read('t'), 3)
  other()
  await arrived(here)
  assert.equal(progress.read('t'), null)
  assert.equal(board.isWatched('t'), false)
})
