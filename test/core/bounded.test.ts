import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { LruMap, SizedLruMap } from '../../src/core/bounded.ts'

describe('a map that forgets', () => {
  it('spares what was used since it was last looked at, once', () => {
    const map = new LruMap<string, number>(3)
    for (const [at, key] of ['a', 'b', 'c'].entries()) map.set(key, at)
    assert.equal(map.get('a'), 0)
    map.set('d', 3)
    assert.deepEqual([map.get('b'), map.size], [undefined, 3])
    // `a` has had its second chance and was not used again; `c` goes before it, for it is older now.
    map.set('e', 4)
    map.set('f', 5)
    assert.deepEqual([map.get('c'), map.get('d'), map.get('a')], [undefined, 3, undefined])
    assert.deepEqual([map.get('e'), map.get('f')], [4, 5])
  })

  it('makes room when all were used, and replaces without forgetting', () => {
    const map = new LruMap<number, string>(2)
    map.set(1, 'one')
    map.set(2, 'two')
    map.set(1, 'uno')
    assert.deepEqual([map.get(1), map.get(2), map.size], ['uno', 'two', 2])
    map.set(3, 'three')
    assert.deepEqual([map.get(3), map.size], ['three', 2])
  })

  it('keeps a used entry whatever else comes, as long as it is used', () => {
    const map = new LruMap<string, number>(100)
    map.set('hot', -1)
    for (let at = 0; at < 10_000; at += 1) {
      assert.equal(map.get('hot'), -1)
      map.set(`cold-${at}`, at)
      assert.ok(map.size <= 100)
    }
  })

  it('with sizes, holds no more than its capacity and nothing larger than that', () => {
    const map = new SizedLruMap<string, string>()
    const limits = (size: number) => ({ size, capacity: 10 })
    map.set('a', 'A', limits(4))
    map.set('b', 'B', limits(4))
    assert.equal(map.get('a'), 'A')
    map.set('c', 'C', limits(5))
    assert.deepEqual([map.get('b'), map.get('a'), map.total], [undefined, 'A', 9])
    map.set('a', 'A2', limits(11))
    assert.deepEqual([map.get('a'), map.get('c'), map.total], [undefined, 'C', 5])
    map.shrink(0)
    assert.deepEqual([map.size, map.total], [0, 0])
  })
})
