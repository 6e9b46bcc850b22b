import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import fc from 'fast-check'
import { BoundedQueue } from '../../src/core/bounded.ts'
import { systemClock } from '../../src/core/clock.ts'
import { ApiError, errorTable, fail, toApiError, toErrorBody } from '../../src/core/errors.ts'
import { makeId } from '../../src/core/ids.ts'
import { startInOrder, type Service } from '../../src/core/service.ts'

test('a bounded queue is a queue, and refuses when full', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5 }),
      fc.array(fc.option(fc.nat(), { nil: null })),
      (capacity, steps) => {
        const queue = new BoundedQueue<number>(capacity)
        const model: number[] = []
        for (const step of steps) {
          if (step === null) assert.equal(queue.take(), model.shift())
          else if (queue.offer(step)) model.push(step)
          else assert.equal(model.length, capacity)
          assert.equal(queue.size, model.length)
        }
      },
    ),
  )
})

test('a queue gives up one item and keeps the order of the others', () => {
  const queue = new BoundedQueue<string>(3)
  for (const item of ['a', 'b', 'c']) queue.offer(item)
  assert.equal(queue.remove('b'), true)
  assert.equal(queue.remove('x'), false)
  assert.deepEqual([queue.take(), queue.take(), queue.take()], ['a', 'c', undefined])
})

test('every error has a status its class promises, and a body in the shape clients read', () => {
  for (const code of Object.keys(errorTable) as (keyof typeof errorTable)[]) {
    const { status, type, meaning } = errorTable[code]
    assert.equal(type === 'server_error', status >= 500, code)
    assert.ok(meaning.endsWith('.'), code)
    const error = fail(code, { param: 'x' })
    assert.deepEqual(toErrorBody(error), { error: { message: meaning, type, param: 'x', code } })
  }
  const stranger = toApiError(new Error('password=1234'))
  assert.equal(stranger.code, 'internal')
  assert.ok(!JSON.stringify(toErrorBody(stranger)).includes('1234'))
  assert.ok(toApiError(fail('not_found')) instanceof ApiError)
})

test('ids differ', () => {
  assert.equal(new Set(Array.from({ length: 10_000 }, () => makeId('x'))).size, 10_000)
})

test('sleep ends early when its signal is aborted, before or after it begins', async () => {
  const reason = new Error('stop')
  await assert.rejects(systemClock.sleep(60_000, AbortSignal.abort(reason)), reason)
  const abort = new AbortController()
  const sleeping = systemClock.sleep(60_000, abort.signal)
  abort.abort(reason)
  await assert.rejects(sleeping, reason)
})

test('services start in order, stop in reverse, and a failed start stops what had started', async () => {
  const log: string[] = []
  const service = (name: string, fails = false): Service => ({
    name,
    start: () => {
      log.push(`start ${name}`)
      return fails ? Promise.reject(new Error(name)) : Promise.resolve()
    },
    stop: () => {
      log.push(`stop ${name}`)
      return Promise.resolve()
    },
  })
  const stop = await startInOrder([service('a'), service('b')])
  await stop()
  await stop()
  assert.deepEqual(log.splice(0), ['start a', 'start b', 'stop b', 'stop a'])
  await assert.rejects(startInOrder([service('a'), service('b', true), service('c')]), /^Error: b$/)
  assert.deepEqual(log, ['start a', 'start b', 'stop b', 'stop a'])
})
