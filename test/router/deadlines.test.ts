import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { Deadlines } from '../../src/router/deadlines.ts'
import { ManualClock } from '../helpers/clock.ts'

const watch = (deadlines: Deadlines, deadlineMs: number) => {
  const entry = {
    deadlineMs,
    place: -1,
    missed: 0,
    onDeadline() {
      this.missed += 1
      deadlines.delete(this)
    },
  }
  deadlines.add(entry)
  return entry
}

describe('deadlines', () => {
  it('are told at the first look after they have passed, each once, and a moved one is not', () => {
    const clock = new ManualClock()
    const deadlines = new Deadlines(clock)
    const [first, moved, never] = [watch(deadlines, 100), watch(deadlines, 100), watch(deadlines, Infinity)]
    clock.advance(99)
    assert.deepEqual([first.missed, moved.missed], [0, 0])
    moved.deadlineMs = 1_000
    clock.advance(51)
    assert.deepEqual([first.missed, moved.missed, never.missed], [1, 0, 0])
    clock.advance(10_000)
    assert.deepEqual([first.missed, moved.missed, never.missed], [1, 1, 0])
  })

  it('keep no timer when nothing is under way, and start it again', () => {
    const clock = new ManualClock()
    const deadlines = new Deadlines(clock)
    const entry = watch(deadlines, 1_000)
    assert.equal(clock.pending, 1)
    deadlines.delete(entry)
    clock.advance(100)
    assert.equal(clock.pending, 0)
    const later = watch(deadlines, 300)
    clock.advance(300)
    assert.equal(later.missed, 1)
  })
})
