import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import {
  Breaker,
  breakerStates,
  nextState,
  type BreakerEvent,
  type BreakerLimits,
  type BreakerState,
} from '../../src/fleet/breaker.ts'
import { CallWindow, type CallOutcome } from '../../src/fleet/call-window.ts'

const limits: BreakerLimits = {
  breakerWindowMs: 10_000,
  breakerCallsMin: 4,
  breakerShare: 0.5,
  breakerOpenMs: 1_000,
}

const other = {}

/** Notes outcomes of calls that are no trial; the last complaint. */
function noteAll(breaker: Breaker, outcomes: readonly CallOutcome[], nowMs = 0) {
  return outcomes.map((outcome) => breaker.note(outcome, other, nowMs, limits)).at(-1)
}

function makeOpen(nowMs = 0): Breaker {
  const breaker = new Breaker()
  breaker.trip(nowMs, limits)
  return breaker
}

describe('the table of a breaker', () => {
  const table: Record<BreakerState, Partial<Record<BreakerEvent, BreakerState>>> = {
    closed: { trip: 'open', forgive: 'closed' },
    open: { wake: 'half_open', forgive: 'closed' },
    half_open: { succeed: 'closed', fail: 'open', forgive: 'closed' },
  }
  const events: readonly BreakerEvent[] = ['trip', 'wake', 'succeed', 'fail', 'forgive']
  for (const state of breakerStates) {
    for (const event of events) {
      it(`${state} + ${event} = ${table[state][event] ?? 'impossible'}`, () => {
        assert.equal(nextState(state, event), table[state][event] ?? null)
      })
    }
  }

  it('is kept to: an impossible transition throws', () => {
    assert.throws(() => makeOpen().trip(0, limits), /trip can't happen while open/)
  })
})

describe('a closed breaker', () => {
  const cases: { name: string; outcomes: CallOutcome[]; complaint: 'failing' | 'slow' | null }[] = [
    { name: 'all well', outcomes: ['success', 'success', 'success', 'success'], complaint: null },
    { name: 'too few to judge', outcomes: ['failure', 'failure', 'failure'], complaint: null },
    { name: 'below the share', outcomes: ['success', 'success', 'success', 'failure'], complaint: null },
    { name: 'at the share', outcomes: ['success', 'failure', 'success', 'failure'], complaint: 'failing' },
    { name: 'slow alone', outcomes: ['success', 'slow', 'success', 'slow'], complaint: 'slow' },
    { name: 'slow and failing', outcomes: ['success', 'failure', 'success', 'slow'], complaint: 'slow' },
    { name: 'failing enough beside slow', outcomes: ['slow', 'slow', 'failure', 'failure'], complaint: 'failing' },
    { name: 'a success does not complain', outcomes: ['failure', 'failure', 'failure', 'success'], complaint: null },
  ] // prettier-ignore
  for (const { name, outcomes, complaint } of cases) {
    it(`${name}: ${complaint ?? 'nothing'}`, () => {
      assert.equal(noteAll(new Breaker(), outcomes), complaint)
    })
  }

  it('counts a call that breaks off late as failed, and not as another call', () => {
    const breaker = new Breaker()
    noteAll(breaker, ['success', 'success', 'success', 'success'])
    assert.equal(breaker.noteLateFailure(0, limits), null)
    assert.equal(breaker.noteLateFailure(0, limits), 'failing')
  })

  it('lets everybody pass, and gives no trials', () => {
    const breaker = new Breaker()
    breaker.enter(other, 0)
    assert.deepEqual([breaker.allows(0), breaker.state, breaker.waitMs(0)], [true, 'closed', 0])
  })
})

describe('an open breaker', () => {
  it('lets nobody pass until its time is over, to the millisecond', () => {
    const breaker = makeOpen(500)
    assert.deepEqual([breaker.allows(1_499), breaker.waitMs(1_499), breaker.allows(1_500), breaker.waitMs(1_500)], [false, 1, true, 0]) // prettier-ignore
    breaker.enter(other, 1_499)
    assert.equal(breaker.state, 'open')
  })

  it('then gives one trial at a time', () => {
    const breaker = makeOpen()
    const [first, second] = [{}, {}]
    breaker.enter(first, 1_000)
    assert.deepEqual([breaker.state, breaker.allows(1_000), breaker.allows(1_000, first), breaker.allows(1_000, second)], ['half_open', false, true, false]) // prettier-ignore
    breaker.enter(second, 1_000)
    breaker.leave(second)
    assert.equal(breaker.allows(1_000), false)
    breaker.leave(first)
    assert.equal(breaker.allows(1_000), true)
    breaker.enter(second, 1_000)
    assert.equal(breaker.allows(1_000, first), false)
  })

  for (const outcome of ['success', 'failure', 'slow'] as const) {
    it(`does not count the ${outcome} of a call that is not the trial`, () => {
      const breaker = makeOpen()
      noteAll(breaker, [outcome, outcome, outcome, outcome, outcome])
      assert.equal(breaker.state, 'open')
      breaker.enter({}, 1_000)
      noteAll(breaker, [outcome, outcome, outcome, outcome, outcome], 1_000)
      assert.equal(breaker.noteLateFailure(1_000, limits), null)
      assert.equal(breaker.state, 'half_open')
    })
  }

  it('closes with the success of its trial, without a memory of the calls before', () => {
    const breaker = new Breaker()
    noteAll(breaker, ['failure', 'failure', 'failure', 'failure'])
    breaker.trip(0, limits)
    const trial = {}
    breaker.enter(trial, 1_000)
    breaker.note('success', trial, 1_000, limits)
    breaker.leave(trial)
    assert.equal(breaker.state, 'closed')
    assert.equal(noteAll(breaker, ['failure', 'failure', 'failure'], 1_000), null)
    assert.deepEqual(breaker.entries, { closed: 1, open: 1, half_open: 1 })
  })

  for (const outcome of ['failure', 'slow'] as const) {
    it(`opens for twice as long with the ${outcome} of each trial, up to sixteen times`, () => {
      const breaker = makeOpen()
      let nowMs = 0
      const lengths: number[] = []
      for (let i = 0; i < 7; i += 1) {
        lengths.push(breaker.waitMs(nowMs))
        nowMs += breaker.waitMs(nowMs)
        const trial = {}
        breaker.enter(trial, nowMs)
        breaker.note(outcome, trial, nowMs, limits)
        breaker.leave(trial)
      }
      assert.deepEqual(lengths, [1_000, 2_000, 4_000, 8_000, 16_000, 16_000, 16_000])
    })
  }

  it('remembers how often it has opened until it was well for as long as it was open', () => {
    for (const [wellMs, expected] of [[999, 2_000], [1_000, 1_000]] as const) {
      const breaker = makeOpen()
      const trial = {}
      breaker.enter(trial, 5_000)
      breaker.note('success', trial, 5_000, limits)
      assert.equal(breaker.trip(5_000 + wellMs, limits), expected)
    } // prettier-ignore
  })

  it('is forgiven at once, and an old trial has no say any more', () => {
    const breaker = makeOpen()
    const trial = {}
    breaker.enter(trial, 1_000)
    breaker.forgive()
    assert.equal(breaker.state, 'closed')
    breaker.note('failure', trial, 1_000, limits)
    breaker.leave(trial)
    assert.deepEqual([breaker.state, breaker.trip(1_000, limits)], ['closed', 1_000])
  })
})

describe('what another process says', () => {
  /** For how long it opens when the trial that follows fails. */
  function failTrial(breaker: Breaker, nowMs: number): number {
    const trial = {}
    breaker.enter(trial, nowMs)
    breaker.note('failure', trial, nowMs, limits)
    return breaker.waitMs(nowMs)
  }

  it('opens it for as long as told, and a failed trial for twice as long', () => {
    const breaker = new Breaker()
    breaker.adopt(1_000, 0)
    assert.deepEqual([breaker.state, breaker.waitMs(0), breaker.entries.open], ['open', 1_000, 0])
    assert.equal(failTrial(breaker, 1_000), 2_000)
  })

  it('counts as one opening when several say it, or it has said so itself', () => {
    for (const begin of ['adopt', 'trip'] as const) {
      const breaker = new Breaker()
      if (begin === 'trip') breaker.trip(0, limits)
      else breaker.adopt(1_000, 0)
      for (const nowMs of [5, 10]) breaker.adopt(1_000, nowMs)
      assert.equal(breaker.waitMs(10), 1_000)
      assert.equal(failTrial(breaker, 1_010), 2_000)
    }
  })

  it('is a further opening after its time, and never makes it shorter', () => {
    const breaker = new Breaker()
    breaker.adopt(1_000, 0)
    breaker.adopt(2_000, 1_000)
    breaker.adopt(500, 1_500)
    assert.equal(breaker.waitMs(1_500), 1_500)
    assert.equal(failTrial(breaker, 3_000), 4_000)
  })

  it('is forgotten once it was well for as long as it was open', () => {
    for (const [wellMs, expected] of [[999, 4_000], [1_000, 2_000]] as const) {
      const breaker = new Breaker()
      breaker.adopt(1_000, 0)
      breaker.adopt(0, 1_000)
      // Told once more by another: it is closed since before.
      breaker.adopt(0, 1_900)
      breaker.adopt(1_000, 1_000 + wellMs)
      assert.equal(failTrial(breaker, 2_000 + wellMs), expected)
    } // prettier-ignore
  })
})

describe('the window of calls', () => {
  const read = ({ calls, failures, slow }: CallWindow) => [calls, failures, slow]

  it('forgets a tenth at a time what is older than itself', () => {
    const window = new CallWindow()
    window.add('failure', 0, 1_000)
    window.add('slow', 150, 1_000)
    window.add('success', 950, 1_000)
    const seen = [999, 1_000, 1_099, 1_100, 1_899, 1_900].map((nowMs) => {
      window.roll(nowMs, 1_000)
      return read(window)
    })
    assert.deepEqual(seen, [[3, 1, 1], [2, 0, 1], [2, 0, 1], [1, 0, 0], [1, 0, 0], [0, 0, 0]]) // prettier-ignore
  })

  it('is empty after a long pause, and when it gets another length', () => {
    const window = new CallWindow()
    window.add('failure', 0, 1_000)
    window.roll(1e9, 1_000)
    assert.deepEqual(read(window), [0, 0, 0])
    window.add('failure', 1e9, 1_000)
    window.add('success', 1e9, 2_000)
    assert.deepEqual(read(window), [1, 0, 0])
  })

  it('agrees with a plain list of calls over random times', () => {
    let seed = 7
    const random = () => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647
    const window = new CallWindow()
    const calls: { atMs: number; outcome: CallOutcome }[] = []
    let nowMs = 0
    for (let i = 0; i < 5_000; i += 1) {
      nowMs += random() < 0.01 ? random() * 3_000 : random() * 40
      const outcome = (['success', 'failure', 'slow'] as const)[Math.floor(random() * 3)] as CallOutcome
      window.add(outcome, nowMs, 1_000)
      calls.push({ atMs: nowMs, outcome })
      const bucket = Math.floor(nowMs / 100)
      const recent = calls.filter(({ atMs }) => Math.floor(atMs / 100) > bucket - 10)
      const count = (wanted: CallOutcome) => recent.filter((call) => call.outcome === wanted).length
      assert.deepEqual(read(window), [recent.length, count('failure'), count('slow')])
      calls.splice(0, calls.length - recent.length)
    }
  })
})
