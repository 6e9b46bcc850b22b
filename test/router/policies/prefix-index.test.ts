import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { PrefixIndex } from '../../../src/router/policies/prefix-index.ts'

const chain = (from: number, length: number) => Array.from({ length }, (_, i) => from + i)

describe('PrefixIndex', () => {
  it('finds how far a prompt is held, for each instance', () => {
    const index = new PrefixIndex({ blocksMax: 1000 })
    index.add('a', chain(0, 10))
    index.add('b', chain(0, 4))
    assert.equal(index.match('a', [...chain(0, 7), 99]), 7)
    assert.equal(index.match('b', chain(0, 10)), 4)
    assert.equal(index.match('b', [99]), 0)
    assert.equal(index.match('never seen', chain(0, 10)), 0)
    assert.equal(index.match('a', []), 0)
  })

  it('keeps what is used and forgets what is not', () => {
    const index = new PrefixIndex({ blocksMax: 100 })
    for (let i = 1; i <= 100; i += 1) {
      index.add('a', chain(0, 10))
      index.add('a', chain(i * 1000, 10))
    }
    assert.equal(index.match('a', chain(0, 10)), 10)
    assert.equal(index.match('a', chain(1000, 10)), 0)
  })

  it('stays within its limit and finds what a plain search would, over random prompts of a tree', () => {
    // A prompt is a path through a tree; a block is named by its path, as a chained hash is.
    const path = fc.array(fc.nat(2), { minLength: 1, maxLength: 10 })
    const toBlocks = (steps: readonly number[]) =>
      steps.map((_, i) => steps.slice(0, i + 1).reduce((id, step) => id * 4 + step + 1, 0))
    const uses = fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c'), path), { maxLength: 200 })
    fc.assert(
      fc.property(uses, path, (uses, asked) => {
        const blocksMax = 60
        const index = new PrefixIndex({ blocksMax })
        const everHeld = new Map<string, Set<number>>()
        for (const [id, steps] of uses) {
          const blocks = toBlocks(steps)
          index.add(id, blocks)
          everHeld.set(id, new Set([...(everHeld.get(id) ?? []), ...blocks]))
          // A prompt is never cut, so the last one may stand out.
          assert.ok(index.size <= blocksMax + 10)
          const found = index.match(id, toBlocks(asked))
          const longest = toBlocks(asked).findIndex((block) => !everHeld.get(id)!.has(block))
          assert.ok(found <= (longest === -1 ? asked.length : longest))
          assert.ok(blocks.length >= blocksMax / 2 || index.match(id, blocks) === blocks.length)
        }
      }),
    )
  })

  it('drops instances that get nothing any more', () => {
    const index = new PrefixIndex({ blocksMax: 100 })
    for (let i = 0; i < 1000; i += 1) index.add(`instance-${i}`, [i])
    assert.ok(index.size <= 101)
  })
})
