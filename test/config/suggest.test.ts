import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { editDistance, suggest } from '../../src/config/suggest.ts'

describe('a suggestion', () => {
  for (const [a, b, distance] of [
    ['', '', 0],
    ['', 'abc', 3],
    ['port', 'port', 0],
    ['prot', 'port', 1],
    ['kitten', 'sitting', 3],
  ] as const) {
    it(`counts ${distance} edits from "${a}" to "${b}"`, () => {
      assert.equal(editDistance(a, b), distance)
      assert.equal(editDistance(b, a), distance)
    })
  }

  it('takes the nearest, and none when all are far', () => {
    assert.equal(suggest('hots', ['port', 'host']), 'host')
    assert.equal(suggest('zzz', ['port', 'host']), null)
    assert.equal(suggest('x'.repeat(1_000_000), ['port']), null)
  })
})
