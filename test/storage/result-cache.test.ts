import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import fc from 'fast-check'
import { SizedLruMap } from '../../src/core/bounded.ts'
import { systemClock } from '../../src/core/clock.ts'
import { decodeAnswer, encodeAnswer, type CachedAnswer } from '../../src/storage/cached-answer.ts'
import { ResultCache, type CacheSettings } from '../../src/storage/result-cache.ts'
import { openLog, type Logger } from '../../src/telemetry/log.ts'
import { FakeCacheStore } from '../helpers/cache-store.ts'
import { ManualClock } from '../helpers/clock.ts'

const { log } = openLog({ level: 'silent', format: 'json' }, systemClock)

const answer = (text: string, more: Partial<CachedAnswer> = {}): CachedAnswer => ({
  ...{ status: 200, contentType: 'application/json', isStream: false, model: 'm', instance: 'i' },
  body: Buffer.from(text),
  ...more,
})

function make(
  more: Partial<CacheSettings> = {},
  given: { store?: FakeCacheStore | null; log?: Logger } = {},
) {
  const clock = new ManualClock()
  const store = given.store === undefined ? new FakeCacheStore() : given.store
  const settings = {
    ...{ enabled: true, ttlMs: 10_000, entryBytesMax: 10_000, memoryBytesMax: 1e6, storageBytesMax: 1e6 },
    ...more,
  }
  const cache = new ResultCache({ store, clock, log: given.log ?? log, settings: () => settings })
  return { cache, clock, settings, store: store as FakeCacheStore }
}

/** Lets what was begun go on: nothing here waits for real time. */
const settle = async () => {
  for (let at = 0; at < 20; at += 1) await turn()
}

const textOf = (found: { answer: CachedAnswer } | null) => found?.answer.body.toString() ?? null

test('an answer is found in memory at once, with its age, until it is too old', async () => {
  const { cache, clock } = make()
  cache.put('k', 't', answer('one'))
  clock.advance(9_999)
  assert.deepEqual(cache.peek('k'), { answer: answer('one'), ageMs: 9_999 })
  clock.advance(1)
  assert.equal(cache.peek('k'), null)
  assert.equal(cache.memoryEntries, 0)
  await settle()
  assert.equal(await cache.find('k'), null, 'and the storage does not bring it back')
})

test('another process finds it in the storage, with its age, and asks once', async () => {
  const { cache, store } = make()
  cache.put('k', 't', answer('one', { isStream: true }))
  await settle()
  const other = make({}, { store })
  other.clock.advance(4_000)
  const [one, two] = await Promise.all([other.cache.find('k'), other.cache.find('k')])
  assert.deepEqual(one, { answer: answer('one', { isStream: true }), ageMs: 4_000 })
  assert.deepEqual(two, one)
  assert.equal(store.reads, 1)
  other.clock.advance(5_000)
  assert.equal(other.cache.peek('k')?.ageMs, 9_000)
  other.clock.advance(1_000)
  assert.equal(other.cache.peek('k'), null, 'an answer does not grow young by being read')
})

test('what was found in the storage keeps nothing but itself in memory', async () => {
  const { cache, clock, store } = make()
  const value = encodeAnswer(answer('of another'))
  const chunk = Buffer.concat([Buffer.alloc(60_000), value])
  const storedAtMs = clock.wallMs()
  const row = { value: chunk.subarray(60_000), storedAtMs, expiresAtMs: storedAtMs + 1_000 }
  store.entries.set('k', { key: 'k', tenant: 't', ...row })
  await cache.find('k')
  const kept = cache.peek('k')
  assert.equal(textOf(kept), 'of another')
  assert.equal(kept?.answer.body.buffer.byteLength, value.length)
})

test('a row with another age than the settings allow, or none at all, is not there', async () => {
  const wallMs = new ManualClock().wallMs()
  const value = encodeAnswer(answer('x'))
  const rows: [string, number, number, boolean][] = [
    ['good', wallMs - 9_000, wallMs + 1, true],
    ['expired', wallMs - 9_000, wallMs, false],
    ['older than the settings allow now', wallMs - 10_000, wallMs + 90_000, false],
    ['a moment ahead: two machines', wallMs + 500, wallMs + 10_500, true],
    ['an hour ahead: the clock was wrong', wallMs + 3_600_000, wallMs + 3_610_000, false],
  ]
  for (const [name, storedAtMs, expiresAtMs, isThere] of rows) {
    const { cache, store } = make()
    store.entries.set('k', { key: 'k', tenant: 't', value, storedAtMs, expiresAtMs })
    const found = await cache.find('k')
    assert.equal(found !== null, isThere, name)
    assert.ok((found?.ageMs ?? 0) >= 0, name)
  }
})

test('damaged values are not there, whatever the damage', () => {
  const whole = encodeAnswer(answer('{"a":1}', { contentType: 'text/event-stream; ü', model: '\u{1F600}' }))
  assert.deepEqual(
    decodeAnswer(new Uint8Array(whole)),
    answer('{"a":1}', { contentType: 'text/event-stream; ü', model: '\u{1F600}' }),
  )
  const headLength = whole.readUInt32BE(1)
  for (let length = 0; length < 5 + headLength; length += 1)
    assert.equal(decodeAnswer(whole.subarray(0, length)), null)
  for (const head of ['null', '[]', '1', '{}', '{"status":"200"}', '{"status":200,"isStream":1}']) {
    const bytes = Buffer.concat([Buffer.from([1, 0, 0, 0, head.length]), Buffer.from(head)])
    assert.equal(decodeAnswer(bytes), null, head)
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const decoded = decodeAnswer(bytes)
      assert.ok(decoded === null || Buffer.isBuffer(decoded.body))
    }),
  )
})

test('too large an answer is not kept, in memory or on disk', async () => {
  const { cache, store } = make({ entryBytesMax: 100 })
  cache.put('large', 't', answer('x'.repeat(101)))
  cache.put('small', 't', answer('x'.repeat(100)))
  await settle()
  assert.deepEqual([cache.memoryEntries, [...store.entries.keys()]], [1, ['small']])
})

test('memory holds no more than it may, and forgets what is unused', () => {
  const { cache, settings } = make({ memoryBytesMax: 4_000 })
  for (let at = 0; at < 20; at += 1) {
    cache.put(`k${at}`, 't', answer('x'.repeat(488)))
    assert.ok(cache.memoryBytes <= 4_000)
    assert.notEqual(cache.peek('k0'), null, 'what is used stays')
  }
  assert.equal(cache.memoryEntries, 4)
  settings.memoryBytesMax = 0
  cache.put('new', 't', answer('x'))
  assert.deepEqual([cache.memoryEntries, cache.memoryBytes], [0, 0])
})

test('a map by size never holds more than its capacity, and goes round those that were used', () => {
  const step = fc.record({ key: fc.integer({ min: 0, max: 9 }), size: fc.integer({ min: 0, max: 60 }), kind: fc.constantFrom('set', 'get', 'delete') }) // prettier-ignore
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const map = new SizedLruMap<number, number>()
      let model: { key: number; size: number; isUsed: boolean }[] = []
      const sum = () => model.reduce((total, { size }) => total + size, 0)
      const shrink = (capacity: number) => {
        while (sum() > capacity) {
          const oldest = model.shift()!
          if (oldest.isUsed) model.push({ ...oldest, isUsed: false })
        }
      }
      for (const { key, size, kind } of steps) {
        const old = model.find((entry) => entry.key === key)
        if (kind === 'get') assert.equal(map.get(key), old?.size)
        if (kind === 'get' && old) old.isUsed = true
        if (kind !== 'get') model = model.filter((entry) => entry !== old)
        if (kind === 'delete') map.delete(key)
        if (kind === 'set') {
          map.set(key, size, { size, capacity: 50 })
          shrink(size <= 50 ? 50 - size : 50)
          if (size <= 50) model.push({ key, size, isUsed: false })
        }
        assert.equal(map.total, sum())
        assert.equal(map.size, model.length)
        assert.ok(map.total <= 50)
      }
      for (const { key, size } of model) assert.equal(map.get(key), size)
    }),
  )
})

test('a storage that fails is left alone for a while and noted once a minute', async () => {
  const warnings: string[] = []
  const loud = { warn: (_fields: object, text: string) => warnings.push(text) } as unknown as Logger
  const { cache, clock, store } = make({}, { log: loud })
  store.fault = () => Promise.reject(new Error('gone'))
  assert.equal(await cache.find('a'), null)
  assert.equal(await cache.find('b'), null)
  assert.equal(store.reads, 1, 'it rests')
  for (let at = 0; at < 10; at += 1) cache.put(`k${at}`, 't', answer('x'))
  await settle()
  assert.equal(cache.writer.counts.failures, 10)
  assert.equal(textOf(cache.peek('k3')), 'x', 'memory serves on')
  clock.advance(5_000)
  store.fault = () => {}
  assert.equal(await cache.find('a'), null)
  assert.deepEqual([store.reads, cache.counts.storageReadFailures], [2, 1])
  assert.deepEqual(warnings, ['cached answers could not be read', 'cached answers could not be written'])
})

test('a storage that is silent, or throws on the spot, costs a quarter of a second', async () => {
  const { cache, clock, store } = make()
  store.fault = () => new Promise(() => {})
  const found = cache.find('k')
  let isOver = false
  void found.then(() => (isOver = true))
  clock.advance(249)
  await settle()
  assert.equal(isOver, false)
  clock.advance(1)
  assert.equal(await found, null)
  assert.equal(clock.pending, 0, 'no timer is left')
  const broken = make()
  broken.store.get = () => {
    throw new Error('at once')
  }
  assert.equal(await broken.cache.find('k'), null)
})

test('writes wait in a bounded line, the newest of a key is written, and the rest is dropped and counted', async () => {
  const { cache, store } = make({ entryBytesMax: 4e6, memoryBytesMax: 0 })
  const gate = Promise.withResolvers<void>()
  store.fault = () => gate.promise
  cache.put('first', 't', answer('x'))
  await settle()
  cache.put('twice', 't', answer('old'))
  cache.put('twice', 't', answer('new'))
  for (let at = 0; at < 20; at += 1) cache.put(`k${at}`, 't', answer('x'.repeat(3_500_000)))
  assert.ok(cache.writer.counts.dropped > 5)
  assert.equal(cache.writer.waitingEntries, 1 + 20 - cache.writer.counts.dropped)
  for (let at = 0; at < 5_000; at += 1) cache.put(`s${at}`, 't', answer('x'))
  assert.equal(cache.writer.waitingEntries, 4_096)
  gate.resolve()
  await cache.stop()
  assert.equal(cache.writer.waitingEntries, 0)
  assert.ok(store.entries.has('first'))
  const row = store.entries.get('twice')
  assert.equal(row && decodeAnswer(row.value)?.body.toString(), 'new')
  const { written, dropped } = cache.writer.counts
  assert.equal(written + dropped, 1 + 1 + 20 + 5_000)
})

test('an entry that comes as the last write ends is written too', async () => {
  const { cache, store } = make()
  for (let at = 0; at < 50; at += 1) {
    cache.put(`k${at}`, 't', answer('x'))
    for (let ticks = 0; ticks < at % 12; ticks += 1) await Promise.resolve()
  }
  await settle()
  assert.equal(store.entries.size, 50)
})

test('the end does not wait for a storage that is silent', async () => {
  const { cache, clock, store } = make()
  await cache.start()
  store.fault = () => new Promise(() => {})
  cache.put('k', 't', answer('x'))
  await settle()
  const stopped = cache.stop()
  await settle()
  clock.advance(2_000)
  await stopped
  await cache.stop()
  assert.equal(clock.pending, 0)
})

test('what is over is removed in small steps, once a minute', async () => {
  const { cache, clock, store, settings } = make({ ttlMs: 1_000, storageBytesMax: 30_000 })
  await cache.start()
  await cache.start()
  for (let at = 0; at < 1_200; at += 1) {
    const entry = { key: `k${at}`, tenant: 't', value: Buffer.alloc(10), storedAtMs: 0, expiresAtMs: 0 }
    store.entries.set(entry.key, entry)
  }
  clock.advance(60_000)
  await settle()
  assert.equal(store.entries.size, 0)
  assert.deepEqual(
    store.prunes.map(({ bytesMax, limit }) => [bytesMax, limit]),
    [1, 2, 3].map(() => [30_000, 500]),
  )
  store.fault = () => Promise.reject(new Error('gone'))
  settings.memoryBytesMax = 0
  clock.advance(60_000)
  await settle()
  assert.equal(store.prunes.length, 4)
  await cache.stop()
  clock.advance(600_000)
  await settle()
  assert.equal(store.prunes.length, 4)
})

test('without a storage, or with none of its bytes, memory is all', async () => {
  const alone = make({}, { store: null })
  alone.cache.put('k', 't', answer('x'))
  assert.equal(textOf(alone.cache.peek('k')), 'x')
  assert.equal(await alone.cache.find('other'), null)
  const none = make({ storageBytesMax: 0 })
  none.cache.put('k', 't', answer('x'))
  await none.cache.find('other')
  await settle()
  assert.deepEqual([none.store.puts, none.store.reads], [0, 0])
})
