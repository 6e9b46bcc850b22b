import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import type { EndedAttempt } from '../../../src/queue/dispatcher.ts'
import { hourMs } from '../../../src/storage/usage-store.ts'
import { costOf, PriceTable } from '../../../src/gateway/usage/prices.ts'
import { rowsMax, UsagePages } from '../../../src/gateway/usage/usage-pages.ts'
import { prices, useCountings, type Counting, type Fate, type RecordFields } from './harness.ts'

/** (60 · 10 + 40 · 1 + 10 · 100) / 1e6 */
const oneCost = 0.00164

const openCounting = useCountings()

/** Lets time pass while nothing but time is waited for. */
async function untilStopped({ clock }: Counting, stopped: Promise<void>): Promise<void> {
  let isStopped = false
  void stopped.then(() => (isStopped = true))
  while (!isStopped) {
    await new Promise((resolve) => setImmediate(resolve))
    if (clock.pending > 0) clock.advance(250)
  }
}

describe('what a request counts as', () => {
  const cases: [what: string, more: RecordFields, counted: string[]][] = [
    ['an answer', {}, [`acme/k1/m 1 0 100 40 10 ${oneCost}`]],
    ['an answer without a key', { keyId: null }, [`acme//m 1 0 100 40 10 ${oneCost}`]],
    ['an answer of a model that has no price', { model: 'free' }, ['acme/k1/free 1 0 100 40 10 0']],
    ['a model with a name of objects', { model: '__proto__' }, ['acme/k1/__proto__ 1 0 100 40 10 0']],
    ['an answer whose tokens nobody counted', { promptTokens: null, cachedTokens: null, completionTokens: null }, ['acme/k1/m 1 0 0 0 0 0']],
    ['more cached than there was', { cachedTokens: 500 }, ['acme/k1/m 1 0 100 500 10 0.0011']],
    ['a cached answer', { cache: 'hit' }, ['acme/k1/m 1 0 0 0 0 0']],
    ['a refusal', { status: 429, error: 'rate_limited', instance: null, promptTokens: null, cachedTokens: null, completionTokens: null }, ['acme/k1/m 0 1 0 0 0 0']],
    ['a refusal of the instance', { status: 400 }, [`acme/k1/m 0 1 100 40 10 ${oneCost}`]],
    ['a stream that broke', { error: 'upstream_failed' }, [`acme/k1/m 0 1 100 40 10 ${oneCost}`]],
    ['a client that left before anybody answered', { status: 499, error: 'client_closed', instance: null }, []],
    ['a model that is not there', { model: null, status: 404, error: 'model_not_found' }, []],
    ['a look at a task', { method: 'GET', status: 500, error: 'internal' }, []],
    ['work that went into the queue', { instance: null, cache: null }, []],
  ] // prettier-ignore
  for (const [what, more, counted] of cases) {
    it(what, async () => {
      await using counting = await openCounting()
      counting.note(more)
      await counting.book.flush()
      assert.deepEqual(await counting.stored(), counted)
    })
  }

  const task: EndedAttempt = {
    ...{ tenant: 'acme', keyId: 'k1', model: 'm', cutUsage: null, ranMs: 7 },
    outcome: {
      kind: 'succeeded',
      result: Buffer.alloc(0),
      usage: { promptTokens: 100, cachedTokens: 40, completionTokens: 10 },
    },
  }
  const error = { code: 'c', message: 'm' }
  const tasks: [what: string, ended: EndedAttempt, counted: string[]][] = [
    ['a task', task, [`acme/k1/m 1 0 100 40 10 ${oneCost}`]],
    ['a task without a key', { ...task, keyId: null }, [`acme//m 1 0 100 40 10 ${oneCost}`]],
    ['a dead task', { ...task, outcome: { kind: 'dead', error } }, ['acme/k1/m 0 1 0 0 0 0']],
    ['an attempt that is tried again', { ...task, outcome: { kind: 'retry', error, runAtMs: 0 } }, []],
    ['an attempt that was given back', { ...task, outcome: { kind: 'released' } }, []],
    ['a cancelled one', { ...task, outcome: { kind: 'cancelled' } }, []],
    [
      'one that was cut short',
      {
        ...task,
        outcome: { kind: 'cancelled' },
        cutUsage: { promptTokens: 100, cachedTokens: 40, completionTokens: 10 },
      },
      [`acme/k1/m 0 1 100 40 10 ${oneCost}`],
    ],
  ]
  for (const [what, ended, counted] of tasks) {
    it(what, async () => {
      await using counting = await openCounting()
      counting.book.noteTask(ended)
      await counting.book.flush()
      assert.deepEqual(await counting.stored(), counted)
    })
  }
})

describe('the book of usage', () => {
  it('writes once a second, one batch for all', async () => {
    await using counting = await openCounting()
    await counting.book.start()
    for (let n = 0; n < 50; n += 1) counting.note({ keyId: `k${n % 2}`, tenant: n % 5 === 0 ? 'b' : 'a' })
    assert.deepEqual(await counting.stored(), [])
    counting.clock.advance(1_000)
    await counting.book.flush()
    assert.equal(counting.store.batches.length, 1)
    assert.deepEqual(
      (await counting.stored({ groups: ['tenant', 'key'] })).map((line) => line.split(' ').slice(0, 2).join(' ')),
      ['a/k0/ 20', 'a/k1/ 20', 'b/k0/ 5', 'b/k1/ 5'],
    )
    counting.clock.advance(3_000)
    await counting.book.flush()
    assert.equal(counting.store.batches.length, 1, 'nothing to write, nothing written')
  }) // prettier-ignore

  it('counts once whatever the storage says of its writes', async () => {
    const sequences: Fate[][] = [
      ['unknown'],
      ['refused'],
      ['unknown', 'unknown', 'unknown'],
      ['refused', 'unknown', 'done', 'refused'],
    ]
    for (const fates of sequences) {
      await using counting = await openCounting()
      counting.store.fates.push(...fates)
      for (let n = 0; n < 8; n += 1) {
        // Counted between the tries: that must not change what is tried again.
        counting.note({ model: n % 2 === 0 ? 'm' : 'cheap' })
        await counting.book.flush()
      }
      await counting.book.stop()
      assert.deepEqual(await counting.stored({ groups: [] }), [`// 8 0 800 320 80 ${Number((4 * oneCost + 4 * 80e-6).toPrecision(12))}`], fates.join()) // prettier-ignore
      assert.equal(counting.book.rows, 0)
    }
  })

  it('keeps all while the storage is away, in rows that do not grow', async () => {
    await using counting = await openCounting()
    counting.store.isAway = true
    await counting.book.start()
    for (let n = 0; n < 120; n += 1) {
      counting.note()
      counting.clock.advance(1_000)
      await counting.book.flush()
    }
    assert.equal(counting.book.rows, 2, 'the batch that is tried again, and what came since')
    counting.store.isAway = false
    assert.equal(await counting.book.flush(), true)
    assert.deepEqual(await counting.stored(), [`acme/k1/m 120 0 12000 4800 1200 ${Number((120 * oneCost).toPrecision(12))}`]) // prettier-ignore
    assert.match(await counting.metrics.expose(), /autoglm_usage_write_failures_total [1-9]/)
  })

  it('writes down the last moment before it stops, and stops although it can not', async () => {
    await using counting = await openCounting()
    await counting.book.start()
    counting.store.fates.push('unknown')
    counting.note()
    counting.store.hold()
    const stopped = counting.book.stop()
    counting.note()
    counting.store.release()
    await untilStopped(counting, stopped)
    assert.deepEqual(await counting.stored({ groups: [] }), [`// 2 0 200 80 20 ${2 * oneCost}`])
    assert.equal(counting.book.rows, 0)
    counting.store.isAway = true
    counting.note()
    await untilStopped(counting, counting.book.stop())
    assert.equal(counting.book.rows, 1)
  })

  it('writes many rows in batches, each of them once', async () => {
    await using counting = await openCounting()
    counting.store.fates.push('done', 'unknown')
    for (let n = 0; n < 1_234; n += 1) counting.note({ keyId: `k${n}` })
    await counting.book.flush()
    await counting.book.flush()
    assert.deepEqual(counting.store.batches.map(({ sequence, rows }) => [sequence, rows.length]), [[1, 500], [2, 500], [2, 500], [3, 234]]) // prettier-ignore
    const [sum] = await counting.stored({ groups: [] })
    assert.match(sum ?? '', /^\/\/ 1234 0 /)
  })

  it('counts in the hour in which a request ends, though the clock be set', async () => {
    await using counting = await openCounting()
    const { clock } = counting
    clock.advance(hourMs - 1)
    counting.note()
    clock.advance(1)
    counting.note()
    clock.advance(hourMs)
    clock.wallOffsetMs = -hourMs
    counting.note()
    clock.wallOffsetMs = 48 * hourMs + 1
    counting.note()
    clock.wallOffsetMs = -hourMs
    counting.note()
    await counting.book.flush()
    const hours = await counting.store.sum({ fromMs: 0, toMs: Infinity, width: 'hour', groups: [], limit: 9 })
    const startMs = Date.UTC(2026, 0, 1)
    assert.deepEqual(
      hours.map(({ atMs, requests }) => [(atMs - startMs) / hourMs, requests]),
      [[0, 1], [1, 3], [50, 1]],
    ) // prettier-ignore
  })

  it('counts for two processes in one store', async () => {
    await using counting = await openCounting()
    const other = counting.beside()
    for (const one of [counting, other]) for (let n = 0; n < 10; n += 1) one.note()
    await Promise.all([counting.book.flush(), other.book.flush()])
    assert.deepEqual(await counting.stored({ groups: [] }), [`// 20 0 2000 800 200 ${Number((20 * oneCost).toPrecision(12))}`]) // prettier-ignore
  })
})

describe('the sums in memory', () => {
  it('are bounded: the names of keys go first, then new rows are refused', () => {
    const pages = new UsagePages()
    for (let n = 0; n < rowsMax; n += 1) pages.row('a', `k${n}`, 'm', 0)
    assert.equal(pages.rows, rowsMax)
    assert.equal(pages.row('a', 'k1', 'm', 0)?.key, 'k1')
    assert.equal(pages.row('a', 'new', 'm', 0)?.key, '')
    assert.equal(pages.row('a', 'newer', 'm', 0), pages.row('a', '', 'm', 0))
    assert.equal(pages.rows, rowsMax + 1)
    for (let n = 0; pages.row(`t${n}`, 'k', 'm', 0) !== null; n += 1) assert.ok(n < rowsMax)
    assert.equal(pages.rows, 2 * rowsMax)
    assert.equal(pages.row('a', 'k7', 'm', 0)?.key, 'k7')
    assert.equal(pages.take().length, 2 * rowsMax)
    assert.deepEqual([pages.rows, [...pages].length], [0, 0])
  })
})

describe('prices', () => {
  it('are for a million tokens: of the prompt, of what of it was cached, of the answer', () => {
    const price = { input: 3, cached: 0.5, output: 15 }
    assert.equal(costOf(price, 1e6, 0, 0), 3)
    assert.equal(costOf(price, 1e6, 1e6, 0), 0.5)
    assert.equal(costOf(price, 1e6, 250_000, 2e6), 2.25 + 0.125 + 30)
    assert.equal(costOf(price, 0, 0, 0), 0)
  })

  it('are taken over when they change', () => {
    let current: Readonly<Record<string, (typeof prices)['m']>> = prices
    const table = new PriceTable(() => current)
    assert.equal(table.of('m').input, 10)
    assert.equal(table.of('constructor').input, 0)
    current = { m: { ...prices.m, input: 11 } }
    assert.equal(table.of('m').input, 11)
    assert.equal(table.of('cheap').input, 0)
  })
})
