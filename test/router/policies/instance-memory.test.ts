import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { InstanceMemory } from '../../../src/router/policies/instance-memory.ts'
import { makeCandidate } from './fake-fleet.ts'

describe('InstanceMemory', () => {
  it('keeps the entry of an instance that is away for a moment', () => {
    const memory = new InstanceMemory(() => ({ turn: 0 }))
    const [a, b] = [makeCandidate('a'), makeCandidate('b')]
    memory.of('a', [a, b]).turn = 5
    memory.of('b', [b])
    assert.equal(memory.of('a', [a, b]).turn, 5)
  })

  it('forgets the vanished when there are many, and never a present one', () => {
    const memory = new InstanceMemory(() => ({ turn: 0 }))
    const stays = makeCandidate('stays')
    memory.of('stays', [stays]).turn = 5
    for (let i = 0; i < 10_000; i += 1) memory.of(`passing-${i}`, [stays, makeCandidate(`passing-${i}`)])
    assert.ok(memory.size <= 70)
    assert.equal(memory.of('stays', [stays]).turn, 5)
  })
})
