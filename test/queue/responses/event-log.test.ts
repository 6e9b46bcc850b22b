import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import fc from 'fast-check'
import { ResponseEventLog } from '../../../src/queue/responses/event-log.ts'
import { StoreUnavailable, type Store } from '../../../src/storage/store.ts'
import { ManualClock } from '../../helpers/clock.ts'

/** A store of blobs whose appends end when the test says so. */
class SlowStore {
  readonly kept = new Map<string, Buffer[]>()
  readonly appends: { resolve(): void; reject(error: Error): void }[] = []
  readonly documents = { insert: () => Promise.resolve(true), remove: () => Promise.resolve(true) }
  readonly blobs = {
    append: (id: string, pieces: readonly Uint8Array[]) =>
      new Promise<number>((resolve, reject) => {
        const done = () => {
          const all = this.kept.get(id) ?? []
          all.push(...pieces.map((piece) => Buffer.from(piece)))
          this.kept.set(id, all)
          resolve(all.length)
        }
        this.appends.push({ resolve: done, reject })
      }),
    read: (id: string, after: number, limit: number) =>
      Promise.resolve(
        (this.kept.get(id) ?? [])
          .map((bytes, index) => ({ number: index + 1, bytes }))
          .slice(after, after + limit),
      ),
    remove: () => Promise.resolve(),
  }

  /** Ends the appends that are under way, and those that follow from them. */
  async settle(error?: Error): Promise<void> {
    while (this.appends.length > 0) {
      for (const append of this.appends.splice(0)) if (error) append.reject(error)
        else append.resolve() // prettier-ignore
      await new Promise(setImmediate)
    }
  }
}

function open() {
  const store = new SlowStore()
  const parts = { store: store as unknown as Pick<Store, 'documents' | 'blobs'>, clock: new ManualClock() }
  return { store, log: new ResponseEventLog({ ...parts, keepMs: () => 1000 }) }
}

const event = (number: number, pad = 0) => ({ type: 'x', number, pad: 'x'.repeat(pad) })

test('events are kept once each, in the order in which they were written, whatever the storage does meanwhile', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof(fc.nat(5), fc.constant('settle' as const)), { maxLength: 40 }),
      async (steps) => {
        const { store, log } = open()
        const writer = await log.open('t', 'resp_1')
        let number = 0
        for (const step of steps) {
          if (step === 'settle') await store.settle()
          else writer.write(Array.from({ length: step }, () => event((number += 1))))
        }
        const flushed = writer.flush()
        await store.settle()
        await flushed
        const all: unknown[] = []
        for (
          let page = await log.read('resp_1', 0);
          page.length > 0;
          page = await log.read('resp_1', all.length)
        ) {
          all.push(...page.map(({ packed }) => (JSON.parse(packed) as { number: number }).number))
        }
        assert.deepEqual(
          all,
          Array.from({ length: number }, (_, index) => index + 1),
        )
        assert.equal((await log.last('resp_1')).events, number)
      },
    ),
    { numRuns: 200 },
  )
})

test('a writer ahead of the storage is asked to pause, and told to go on', async () => {
  const { store, log } = open()
  const writer = await log.open('t', 'resp_1')
  let resumed = 0
  const resume = () => (resumed += 1)
  assert.equal(writer.write([event(1)], resume), true)
  assert.equal(writer.write([event(2, 300_000)], resume), false)
  assert.equal(resumed, 0)
  await store.settle()
  await writer.flush()
  assert.equal(resumed, 1)
  assert.equal(writer.write([event(3)], resume), true)
})

test('a storage that fails is told of by flush, and nobody waits for it', async () => {
  const { store, log } = open()
  const writer = await log.open('t', 'resp_1')
  let resumed = 0
  writer.write([event(1)])
  assert.equal(writer.write([event(2, 300_000)], () => (resumed += 1)), false) // prettier-ignore
  await store.settle(new StoreUnavailable('disk full'))
  assert.equal(resumed, 1)
  await assert.rejects(writer.flush(), { code: 'storage_unavailable' })
  // What comes now is dropped, not heaped up.
  assert.equal(writer.write([event(3, 300_000)], () => {}), true) // prettier-ignore
  assert.equal(store.kept.size, 0)
})

test('once its attempt is over, a writer begins no further write', async () => {
  const { store, log } = open()
  const over = new AbortController()
  const writer = await log.open('t', 'resp_1', over.signal)
  writer.write([event(1)])
  writer.write([event(2)])
  over.abort()
  await store.settle()
  await writer.flush()
  writer.write([event(3)])
  await store.settle()
  assert.equal((await log.last('resp_1')).events, 1)
})

test('one stream has a limit', async () => {
  const { store, log } = open()
  const writer = await log.open('t', 'resp_1')
  const large = event(1, 1024 * 1024)
  for (let count = 0; count < 65; count += 1) {
    writer.write([large])
    await store.settle()
  }
  await assert.rejects(writer.flush(), { code: 'stream_broken' })
})

test('who watches a response is told of its events, and of no other', async () => {
  const { store, log } = open()
  let rings = 0
  const unwatch = log.watch('resp_1', () => (rings += 1))
  const [one, two] = [await log.open('t', 'resp_1'), await log.open('t', 'resp_2')]
  one.write([event(1)])
  two.write([event(1)])
  await store.settle()
  assert.equal(rings, 1)
  unwatch()
  one.write([event(2)])
  await store.settle()
  assert.equal(rings, 1)
})
