import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import fc from 'fast-check'
import { StopMatcher } from '../../engine/stop.ts'

/** All that is given out when `pieces` come one by one. */
function run(stops: string[], pieces: string[]): { text: string; stopped: boolean } {
  const matcher = new StopMatcher(stops)
  let text = ''
  for (const piece of pieces) {
    const step = matcher.push(piece)
    text += step.text
    if (step.stopped) return { text, stopped: true }
  }
  return { text: text + matcher.flush(), stopped: false }
}

test('without stop strings every piece passes at once', () => {
  const matcher = new StopMatcher([])
  assert.deepEqual(matcher.push('abc'), { text: 'abc', stopped: false })
})

test('a stop string across pieces is cut off and ends the text', () => {
  assert.deepEqual(run(['END'], ['one E', 'N', 'D two']), { text: 'one ', stopped: true })
})

test('what could become a stop string is held back, and given out when it does not', () => {
  const matcher = new StopMatcher(['\nUser:'])
  assert.deepEqual(matcher.push('hello\nUs'), { text: 'hello', stopped: false })
  assert.deepEqual(matcher.push('ual'), { text: '\nUsual', stopped: false })
})

test('the earliest of several stop strings counts', () => {
  assert.deepEqual(run(['xyz', 'b'], ['axyz b']), { text: 'a', stopped: true })
})

test('no cut of the text changes the result, and no stop string ever leaks', () => {
  const letters = fc.stringMatching(/^[ab]{1,3}$/)
  fc.assert(
    fc.property(
      fc.array(letters, { minLength: 1, maxLength: 3 }),
      fc.array(fc.stringMatching(/^[abc]{0,4}$/), { maxLength: 12 }),
      (stops, pieces) => {
        const whole = pieces.join('')
        const result = run(stops, pieces)
        const ends = stops.map((stop) => whole.indexOf(stop)).filter((at) => at !== -1)
        assert.equal(result.stopped, ends.length > 0)
        // What is given out never holds a whole stop string, and is the text up to where the first one was noticed.
        assert.ok(whole.startsWith(result.text))
        assert.ok(stops.every((stop) => !result.text.includes(stop)))
        if (ends.length === 0) assert.equal(result.text, whole)
      },
    ),
  )
})
