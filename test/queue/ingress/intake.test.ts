import { strict as assert } from 'node:assert'
import test from 'node:test'
import pino from 'pino'
import { fail, type ApiError, type ErrorCode } from '../../../src/core/errors.ts'
import { Intake, type Delivery } from '../../../src/queue/ingress/intake.ts'
import type { Submitted } from '../../../src/queue/queue.ts'
import type { TaskSpec } from '../../../src/queue/task.ts'
import { ManualClock } from '../../helpers/clock.ts'
import { eventually } from '../../helpers/server.ts'

const good = { endpoint: '/v1/completions', body: { model: 'm', prompt: 'Hi' } }
const rules = { bodyBytesMax: 1_000, jsonDepthMax: 16, webhooks: { secrets: [], allowPrivate: false } }

class FakeDelivery implements Delivery {
  readonly incoming
  readonly isLast: boolean
  ends: string[] = []

  constructor(body: unknown = good, isLast = false) {
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    this.incoming = { body: Buffer.from(text), tenant: undefined, priority: undefined, idempotencyKey: null }
    this.isLast = isLast
  }

  accept(): void {
    this.ends.push('accepted')
  }
  bury(error: ApiError): Promise<void> {
    this.ends.push(`buried ${error.code}`)
    return Promise.resolve()
  }
  giveBack(): void {
    this.ends.push('given back')
  }
}

/** An intake before a queue that answers as the test says. */
function begin(answer: (spec: TaskSpec) => ErrorCode | null) {
  const batches: number[] = []
  const lines: string[] = []
  const clock = new ManualClock()
  const queue = {
    submitAll: (specs: readonly TaskSpec[]) => {
      batches.push(specs.length)
      return Promise.resolve(
        specs.map((spec) => {
          const code = answer(spec)
          return code === null ? ({ created: true } as Submitted) : fail(code, { retryAfterMs: 4_000 })
        }),
      )
    },
  }
  const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) })
  const intake = new Intake({ queue, clock, log, rules: () => rules, count: () => {} })
  return { intake, batches, clock, lines, queue }
}

test('what arrives together is committed together, and each message has its own end', async () => {
  const { intake, batches } = begin(({ metadata }) => (metadata['x'] as ErrorCode | undefined) ?? null)
  const conflict = new FakeDelivery({ ...good, metadata: { x: 'idempotency_conflict' } })
  const all = [
    new FakeDelivery(),
    new FakeDelivery('{'),
    conflict,
    new FakeDelivery({ ...good, dead_line: 1 }),
    new FakeDelivery(),
  ]
  for (const delivery of all) intake.take(delivery)
  await eventually('all are settled', () => intake.size === 0)
  assert.deepEqual(batches, [3])
  assert.deepEqual(
    all.map(({ ends }) => ends),
    [
      ['accepted'],
      ['buried invalid_json'],
      ['buried idempotency_conflict'],
      ['buried invalid_request'],
      ['accepted'],
    ],
  )
})

test('a full queue holds messages without asking again before its time', async () => {
  let isFull = true
  const { intake, batches, clock, lines } = begin(() => (isFull ? 'queue_full' : null))
  const all = Array.from({ length: 10 }, () => new FakeDelivery(good, true))
  for (const delivery of all) intake.take(delivery)
  await eventually('they are asked for', () => clock.pending === 10)
  clock.advance(3_999)
  await new Promise((resolve) => setImmediate(resolve))
  assert.deepEqual(batches, [10])
  assert.equal(intake.size, 10)
  clock.advance(1)
  await eventually('they wait again', () => clock.pending === 10)
  isFull = false
  clock.advance(4_000)
  await eventually('they are stored', () => intake.size === 0)
  assert.deepEqual(batches, [10, 10, 10])
  assert(all.every(({ ends }) => ends.join() === 'accepted'))
  assert.equal(lines.filter((line) => line.includes('takes no tasks')).length, 1)
  assert.equal(lines.filter((line) => line.includes('taken again')).length, 1)
})

test('a tenant that is full does not hold up others', async () => {
  const { intake } = begin(({ metadata }) => (metadata['full'] ? 'queue_full' : null))
  const [full, other] = [new FakeDelivery({ ...good, metadata: { full: '1' } }), new FakeDelivery()]
  intake.take(full)
  await eventually('it is held', () => intake.size === 1)
  intake.take(other)
  await eventually('the other is stored', () => other.ends.length === 1)
  assert.deepEqual(full.ends, [])
  await intake.close()
})

test('a model that is not served yet is given back after a pause, the last time buried', async () => {
  const { intake, clock } = begin(() => 'model_not_found')
  const [first, last] = [new FakeDelivery(), new FakeDelivery(good, true)]
  intake.take(first)
  intake.take(last)
  await eventually('they are asked for', () => clock.pending === 1)
  assert.deepEqual(last.ends, ['buried model_not_found'])
  clock.advance(5_000)
  assert.deepEqual(first.ends, ['given back'])
  assert.equal(intake.size, 0)
})

test('a message that arrives at the very end of a batch does not wait for the next one', async () => {
  for (let depth = 0; depth < 12; depth += 1) {
    const { intake } = begin(() => null)
    const [first, late] = [new FakeDelivery(), new FakeDelivery()]
    const arriveIn = (turns: number) =>
      turns === 0 ? intake.take(late) : queueMicrotask(() => arriveIn(turns - 1))
    first.accept = () => arriveIn(depth)
    intake.take(first)
    for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve))
    assert.deepEqual([late.ends, intake.size], [['accepted'], 0], `${depth} turns later`)
  }
})

test('a queue that throws gives messages back', async () => {
  const { intake, clock, queue } = begin(() => null)
  queue.submitAll = () => Promise.reject(new TypeError('a fault of ours'))
  const delivery = new FakeDelivery()
  intake.take(delivery)
  await eventually('it waits', () => clock.pending === 1)
  clock.advance(5_000)
  assert.deepEqual(delivery.ends, ['given back'])
})

test('close settles the batch under way and touches nothing else', async () => {
  const { intake, clock, queue } = begin(() => 'queue_full')
  const held = new FakeDelivery()
  intake.take(held)
  await eventually('it is held', () => clock.pending === 1)
  const commit = Promise.withResolvers<Submitted[]>()
  let asked = false
  queue.submitAll = () => {
    asked = true
    return commit.promise
  }
  const underWay = new FakeDelivery()
  intake.take(underWay)
  await eventually('it is under way', () => asked)
  const late = new FakeDelivery()
  intake.take(late)
  const left = intake.left()
  const closed = intake.close()
  commit.resolve([{ created: true } as Submitted])
  await closed
  await left
  intake.take(new FakeDelivery())
  assert.deepEqual([held.ends, underWay.ends, late.ends], [[], ['accepted'], []])
  assert.equal(clock.pending, 0)
  assert.equal(intake.size, 0)
})
