import { strict as assert } from 'node:assert'
import test from 'node:test'
import { judge, readRetryAfter } from '../../../src/queue/webhooks/verdict.ts'

const tries = { attempt: 1, attemptsMax: 8, chance: 0.5 }
const answered = (status: number, retryAfterMs: number | null = null) =>
  ({ kind: 'answered', status, retryAfterMs }) as const

test('only 2xx is delivered; 410 is the end; the rest may pass', () => {
  for (const status of [200, 201, 204, 299]) assert.equal(judge(answered(status), tries).kind, 'delivered')
  assert.equal(judge(answered(410), tries).kind, 'given_up')
  for (const status of [300, 301, 302, 307, 308, 400, 401, 404, 408, 429, 500, 503])
    assert.equal(judge(answered(status), tries).kind, 'retry', String(status))
  assert.equal(judge({ kind: 'failed', reason: 'x' }, tries).kind, 'retry')
  assert.equal(judge({ kind: 'refused', reason: 'x' }, tries).kind, 'given_up')
})

test('the last attempt is the last', () => {
  assert.equal(judge(answered(500), { ...tries, attempt: 8 }).kind, 'given_up')
  assert.equal(judge(answered(500), { ...tries, attempt: 9 }).kind, 'given_up')
  assert.equal(judge(answered(200), { ...tries, attempt: 9 }).kind, 'delivered')
})

test('delays grow fourfold up to six hours, spread by a fifth', () => {
  const delay = (attempt: number, chance: number) => {
    const verdict = judge(answered(500), { attempt, attemptsMax: 50, chance })
    return verdict.kind === 'retry' ? verdict.delayMs : NaN
  }
  assert.deepEqual([1, 2, 3, 4].map((attempt) => delay(attempt, 0.5)), [5_000, 20_000, 80_000, 320_000]) // prettier-ignore
  assert.equal(delay(49, 0.5), 21_600_000)
  assert.equal(delay(1, 0), 4_000)
  assert.equal(delay(1, 1), 6_000)
})

test('a receiver that names a time gets it, up to a day', () => {
  const delay = (retryAfterMs: number) => {
    const verdict = judge(answered(429, retryAfterMs), tries)
    return verdict.kind === 'retry' ? verdict.delayMs : NaN
  }
  assert.equal(delay(60_000), 60_000)
  assert.equal(delay(1_000), 5_000)
  assert.equal(delay(1e12), 86_400_000)
})

test('Retry-After is seconds or a date', () => {
  const wallMs = Date.UTC(2026, 0, 1)
  assert.equal(readRetryAfter('120', wallMs), 120_000)
  assert.equal(readRetryAfter('Thu, 01 Jan 2026 00:01:00 GMT', wallMs), 60_000)
  assert.equal(readRetryAfter('Wed, 31 Dec 2025 00:00:00 GMT', wallMs), 0)
  for (const text of [undefined, '', 'soon', 'NaN', '1e400']) assert.equal(readRetryAfter(text, wallMs), null)
})
