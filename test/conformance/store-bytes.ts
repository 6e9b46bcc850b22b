import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import type { WithStore } from './store.ts'
import { bytes, startMs, text } from './tasks.ts'

export function describeBytes(withStore: WithStore): void {
  describe('blobs and the cache', () => {
    it(
      'appends pieces behind one another and reads them in order',
      withStore(async ({ blobs }) => {
        assert.equal(await blobs.append('f', [bytes('one'), bytes('two')]), 2)
        assert.equal(await blobs.append('g', [bytes('other')]), 1)
        assert.equal(await blobs.append('f', [new Uint8Array()]), 3)
        assert.equal(await blobs.append('f', []), 3)
        assert.equal(await blobs.append('f', [bytes('four')]), 4)
        const read = async (after: number, limit: number) =>
          (await blobs.read('f', after, limit)).map((piece) => `${piece.number} ${text(piece.bytes)}`)
        assert.deepEqual(await read(0, 10), ['1 one', '2 two', '3 ', '4 four'])
        assert.deepEqual(await read(1, 2), ['2 two', '3 '])
        assert.deepEqual(await read(4, 2), [])
        await blobs.remove('f')
        await blobs.remove('f')
        assert.deepEqual(await read(0, 10), [])
        assert.equal((await blobs.read('g', 0, 10)).length, 1)
      }),
    )

    it(
      'numbers the pieces of appends at the same moment without a gap',
      withStore(async ({ blobs }) => {
        await Promise.all(Array.from({ length: 20 }, (_, index) => blobs.append('f', [bytes(`${index}`)])))
        const pieces = await blobs.read('f', 0, 100)
        assert.deepEqual(
          pieces.map(({ number }) => number),
          Array.from({ length: 20 }, (_, index) => index + 1),
        )
        assert.equal(new Set(pieces.map((piece) => text(piece.bytes))).size, 20)
      }),
    )

    it(
      'keeps the last answer of a key',
      withStore(async ({ cache }) => {
        const entry = { key: 'k', tenant: 'acme', storedAtMs: startMs, expiresAtMs: startMs + 10 }
        assert.equal(await cache.get('k'), null)
        await cache.put({ ...entry, value: bytes('first') })
        await cache.put({ ...entry, value: bytes('second'), storedAtMs: startMs + 1 })
        const { value, ...times } = (await cache.get('k'))!
        assert.equal(text(value), 'second')
        assert.deepEqual(times, { storedAtMs: startMs + 1, expiresAtMs: startMs + 10 })
      }),
    )

    it(
      'prunes what has expired, then the oldest beyond the size, in steps',
      withStore(async (store) => {
        const { cache } = store
        const put = (key: string, size: number, storedAtMs: number, expiresAtMs = startMs + 1e6) =>
          cache.put({ key, tenant: 'acme', value: new Uint8Array(size), storedAtMs, expiresAtMs })
        await put('gone', 10, startMs + 9, startMs + 10)
        await put('b', 100, startMs + 2)
        await put('a', 100, startMs + 1)
        await put('c', 100, startMs + 3)
        // Stored again: it is young now, and counts once.
        await put('a', 100, startMs + 4)
        assert.equal(await cache.prune(startMs + 9, 1000, 10), 0)
        assert.equal(await cache.prune(startMs + 10, 1000, 10), 1)
        assert.equal(await cache.prune(startMs + 10, 300, 10), 0)
        assert.equal(await cache.prune(startMs + 10, 299, 10), 1)
        assert.equal(await cache.get('b'), null)
        assert.equal(await cache.prune(startMs + 10, 0, 1), 1)
        assert.equal(await cache.get('c'), null)
        assert.notEqual(await cache.get('a'), null)
        assert.equal(await cache.prune(startMs + 10, 0, 10), 1)
        assert.deepEqual(await store.maintenance.check(), [])
      }),
    )
  })
}
