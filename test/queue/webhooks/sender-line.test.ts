import { strict as assert } from 'node:assert'
import test from 'node:test'
import pino from 'pino'
import { WebhookSender } from '../../../src/queue/webhooks/sender.ts'
import { ManualClock } from '../../helpers/clock.ts'
import { FakeUpstream } from '../../helpers/upstream.ts'
import { FakeOutbox } from './fake-outbox.ts'
import { begin, hook, receive, rules } from './sender-bench.ts'

/** Lets the clock run in small steps, with what they set off, until it holds. */
async function pass(clock: ManualClock, holds: () => boolean): Promise<void> {
  while (!holds()) {
    clock.advance(100)
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}

test('a host that hangs holds up its own messages and no others', async (t) => {
  const slow = await FakeUpstream.start(() => {})
  t.after(() => slow.stop())
  const fast = await receive(t)
  const { outbox, clock } = await begin(t, { rules: { ...rules, timeoutMs: 120_000 } })
  for (let at = 0; at < 300; at += 1) outbox.add(`slow_${at}`, hook(slow))
  for (let at = 0; at < 100; at += 1) outbox.add(`fast_${at}`, hook(fast))
  await slow.until(() => slow.active === 8)
  const startMs = clock.now()
  await pass(clock, () => fast.requests.length === 100)
  assert(clock.now() - startMs < 119_000, 'sooner than the first of the slow ones is given up')
  assert.equal(slow.requests.length, 8)
})

test('a fast host gets many without one being put back', async (t) => {
  const receiver = await receive(t)
  const outbox = new FakeOutbox()
  for (let at = 0; at < 500; at += 1) outbox.add(`task_${at}`, hook(receiver))
  await begin(t, { outbox })
  await outbox.until(() => outbox.rows.size === 0)
  assert.equal(outbox.settled.length, 500)
})

test('a message put back for want of room has lost no attempt', async (t) => {
  let isSlow = true
  const receiver = await FakeUpstream.start((_request, response) => {
    if (!isSlow) response.writeHead(500).end()
  })
  t.after(() => receiver.stop())
  const { outbox, clock } = await begin(t)
  for (let at = 0; at < 73; at += 1) outbox.add(`task_${at}`, hook(receiver))
  await receiver.until(() => receiver.active === 8)
  await pass(clock, () => outbox.settled.length === 1)
  assert.equal(outbox.settled[0]?.id, 'msg_task_72', 'the line of 64 behind 8 is full')
  isSlow = false
  receiver.cut()
  const isOver = () => !outbox.rows.has('msg_task_72')
  await pass(clock, isOver)
  const tries = receiver.requests.filter(({ headers }) => headers['webhook-id'] === 'msg_task_72')
  assert.equal(tries.length, rules.attemptsMax)
})

test('a message that comes at the very end of a look does not wait for the next poll', async (t) => {
  for (let depth = 0; depth < 12; depth += 1) {
    // Refused, so that nothing has to be waited for but the look itself.
    const { outbox } = await begin(t, { rules: { ...rules, allowPrivate: false } })
    const comeIn = (turns: number) =>
      turns === 0 ? outbox.add('task_1', 'https://127.0.0.1/') : queueMicrotask(() => comeIn(turns - 1))
    comeIn(depth)
    for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve))
    assert.equal(outbox.settled.length, 1, `${depth} turns later`)
  }
})

test('a store that fails is asked again, and complained about once', async (t) => {
  const receiver = await receive(t)
  const outbox = new FakeOutbox()
  outbox.failing = true
  const { clock, lines } = await begin(t, { outbox })
  outbox.add('task_1', hook(receiver))
  for (let at = 0; at < 5; at += 1) {
    clock.advance(1_000)
    await new Promise((resolve) => setImmediate(resolve))
  }
  const complaints = lines.filter((line) => line.includes('storage'))
  assert.equal(complaints.length, 1)
  assert.match(complaints[0] ?? '', /"reason":"the disk is full"/)
  assert(!complaints[0]?.includes('stack'), 'a storage that is away needs no stack trace')
  outbox.failing = false
  clock.advance(1_000)
  await outbox.until(() => outbox.rows.size === 0)
})

test('what a dead sender held comes again after its lease', async (t) => {
  const receiver = await receive(t)
  const outbox = new FakeOutbox()
  const clock = new ManualClock()
  outbox.add('task_1', hook(receiver))
  // A sender that died right after the claim.
  await outbox.store.outbox.claim(clock.wallMs(), 110_000, 1)
  await begin(t, { outbox, clock })
  clock.advance(109_000)
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal(receiver.requests.length, 0)
  clock.advance(1_000)
  await outbox.until(() => outbox.rows.size === 0)
  assert.equal(receiver.requests.length, 1)
})

test('stop gives back what waits, cuts off what hangs after a moment, and may be repeated', async (t) => {
  const receiver = await FakeUpstream.start(() => {})
  t.after(() => receiver.stop())
  const { outbox, clock, sender } = await begin(t)
  for (let at = 0; at < 20; at += 1) outbox.add(`task_${at}`, hook(receiver))
  await receiver.until(() => receiver.active === 8)
  const stopped = sender.stop()
  await outbox.until(() => outbox.settled.length === 12)
  clock.advance(2_000)
  await stopped
  assert.equal(outbox.settled.length, 20)
  assert(outbox.settled.every(({ retryAtMs }) => retryAtMs !== null && retryAtMs <= clock.wallMs()))
  await sender.stop()
  assert.equal(clock.pending, 0)
  await new WebhookSender({ store: outbox.store, clock, settings: () => rules, log: pino({ level: 'silent' }) }).stop() // prettier-ignore
})
