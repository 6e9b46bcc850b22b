import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { fail } from '../../src/core/errors.ts'

describe('an error of the table', () => {
  it('notes where it came from only if it is a fault of this server', () => {
    const before = Error.stackTraceLimit
    assert.match(fail('internal', { cause: new Error('why') }).stack ?? '', /\n {4}at .*errors\.test/)
    assert.doesNotMatch(fail('rate_limited', { retryAfterMs: 1 }).stack ?? '', /\n {4}at /)
    assert.equal(Error.stackTraceLimit, before)
    assert.match(new Error('another').stack ?? '', /\n {4}at .*errors\.test/)
  })

  it('keeps what it is made of', () => {
    const cause = new Error('why')
    const error = fail('overloaded', { message: 'full', retryAfterMs: 5, param: 'model', cause })
    assert.ok(error instanceof Error)
    const { code, status, message, retryAfterMs, param, name } = error
    assert.deepEqual(
      { code, status, message, retryAfterMs, param, name },
      { code: 'overloaded', status: 503, message: 'full', retryAfterMs: 5, param: 'model', name: 'ApiError' },
    )
    assert.equal(error.cause, cause)
  })
})
