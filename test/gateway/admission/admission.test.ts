import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { fail } from '../../../src/core/errors.ts'
import { head, TestDoor } from './door.ts'

test('where there is room a call goes on at once, in the same turn', () => {
  const door = new TestDoor()
  door.ask()
  assert.equal(door.begun.length, 1)
  assert.equal(door.clock.pending, 0, 'no timer')
})

test('the others wait for a place, and get it as soon as one is given back', async () => {
  const door = new TestDoor()
  const asked = [door.ask(), door.ask(), door.ask(), door.ask()]
  await door.settled()
  assert.deepEqual(door.sight, { limit: 2, inFlight: 2, waiting: 2 })
  door.begun[0]!.answer()
  await door.settled()
  assert.deepEqual([asked[0]!.outcome, door.begun.length, door.sight.waiting], ['answered', 3, 1])
  door.begun[1]!.fail(fail('upstream_failed'))
  await door.settled()
  assert.deepEqual([asked[1]!.outcome, door.begun.length], ['upstream_failed', 4])
  for (const { answer } of door.begun) answer()
  await door.settled()
  assert.deepEqual(door.sight, { limit: 2, inFlight: 0, waiting: 0 })
  assert.deepEqual(await Promise.all([door.count('admitted'), door.metric('autoglm_admission_limit{model="m"}')]), [4, 2]) // prettier-ignore
})

test('a full line refuses with Retry-After from the rate at which places become free', async () => {
  const door = new TestDoor({ waitingMax: 2 })
  // A request keeps its place for 4 s: one of two becomes free every 2 s.
  await door.answerOften(4, 4_000)
  for (let i = 0; i < 4; i += 1) door.ask()
  const refused = door.ask()
  await door.settled()
  assert.equal(refused.outcome, 'overloaded')
  assert.equal(refused.error!.retryAfterMs, 4_000)
  assert.match(refused.error!.message, /Retry-After/)
  assert.equal(await door.count('rejected_full'), 1)
})

test('who would wait longer than anybody may is told so at once', async () => {
  const door = new TestDoor({ waitingMax: 100, waitMaxMs: 10_000 })
  await door.answerOften(4, 4_000)
  const asked = Array.from({ length: 20 }, () => door.ask())
  await door.settled()
  // Two are under way; six more begin within ten seconds.
  assert.equal(door.sight.waiting, 6)
  assert.equal(asked.filter(({ outcome }) => outcome === 'overloaded').length, 12)
})

test('a more urgent request takes the place of a less urgent one in a full line', async () => {
  const door = new TestDoor({ waitingMax: 2 })
  door.ask()
  door.ask()
  const flex = [door.ask({ tier: 'flex' }), door.ask({ tier: 'flex' })]
  const urgent = door.ask({ tier: 'priority' })
  await door.settled()
  assert.deepEqual([flex[0]!.outcome, flex[1]!.outcome, urgent.outcome], [null, 'overloaded', null])
  assert.ok(flex[1]!.error!.retryAfterMs! >= 1_000)
  assert.equal(await door.count('rejected_shed', 'flex'), 1)
  assert.equal(await door.metric('autoglm_admission_waiting{model="m",tier="priority"}'), 1)
  door.begun[0]!.answer()
  await door.settled()
  assert.equal(door.begun.at(-1)!.call.ask!.tier, 'priority')
})

test('the longest wait ends in a refusal, by one timer for all, which stops when nobody waits', async () => {
  const door = new TestDoor({ waitMaxMs: 500 })
  const asked = [door.ask(), door.ask(), door.ask(), door.ask()]
  assert.equal(door.clock.pending, 1)
  door.clock.advance(490)
  await door.settled()
  assert.equal(asked[2]!.outcome, null)
  door.clock.advance(100)
  await door.settled()
  assert.deepEqual([asked[2]!.outcome, asked[3]!.outcome], ['overloaded', 'overloaded'])
  assert.match(asked[2]!.error!.message, /expired while waiting/)
  assert.equal(await door.count('expired'), 2)
  assert.deepEqual([door.sight.waiting, door.sight.inFlight], [0, 2])
  door.clock.advance(100)
  assert.equal(door.clock.pending, 0)
})

test('a client that is gone leaves the line at once; so does one that was gone before it came', async () => {
  const door = new TestDoor()
  door.ask()
  door.ask()
  const gone = door.ask()
  await door.settled()
  gone.abort()
  await door.settled()
  assert.deepEqual([gone.outcome, door.sight.waiting], ['client_closed', 0])
  assert.equal(await door.count('client_gone'), 1)
  // Let in and gone in the same turn: its place is given back all the same.
  const late = door.ask()
  door.begun[0]!.answer()
  await Promise.resolve()
  late.abort()
  await door.settled()
  assert.equal(late.outcome, 'client_closed')
  assert.equal(door.sight.inFlight, 1)
})

test('a deadline out of reach is refused at once', async () => {
  const cases = [
    { room: true, aheads: 0, ms: 2_900, outcome: 'deadline_unreachable' },
    { room: true, aheads: 0, ms: 3_100, outcome: null },
    { room: false, aheads: 0, ms: 3_100, outcome: null },
    { room: false, aheads: 2, ms: 5_900, outcome: 'deadline_unreachable' },
    { room: false, aheads: 2, ms: 6_100, outcome: null },
  ]
  for (const { room, aheads, ms, outcome } of cases) {
    const door = new TestDoor()
    // Its first token usually takes 3 s, and a place becomes free every 1.5 s.
    await door.answerOften(12, 3_000)
    if (!room) for (let i = 0; i < 2 + aheads; i += 1) door.ask()
    const asked = door.ask({ deadlineMs: door.clock.now() + ms })
    await door.settled()
    assert.equal(asked.outcome, outcome, JSON.stringify({ room, aheads, ms }))
    assert.equal(await door.count('rejected_deadline'), outcome === null ? 0 : 1)
  }
})

test('the time to a first token is forgotten when nobody has heard of it for a minute', async () => {
  const door = new TestDoor()
  await door.answerOften(12, 3_000)
  door.clock.advance(70_000)
  const asked = door.ask({ deadlineMs: door.clock.now() + 1_000 })
  await door.settled()
  assert.equal(asked.outcome, null)
})

test('a deadline that passes out of reach while its request waits', async () => {
  const door = new TestDoor()
  door.ask()
  door.ask()
  const asked = door.ask({ deadlineMs: door.clock.now() + 700 })
  door.clock.advance(650)
  await door.settled()
  assert.equal(asked.outcome, null)
  door.clock.advance(100)
  await door.settled()
  assert.equal(asked.outcome, 'deadline_unreachable')
})

/** The loop stands still: time passes, and no timer fires. */
function stall(door: TestDoor, ms: number): void {
  const untilMs = door.clock.now() + ms
  door.clock.now = () => untilMs
}

test('after a pause of the loop, a place goes to somebody who is still in time', async () => {
  const door = new TestDoor()
  door.ask()
  door.ask()
  const late = Array.from({ length: 3 }, () => door.ask({ deadlineMs: door.clock.now() + 700 }))
  const patient = door.ask({ tenant: 'b' })
  await door.settled()
  stall(door, 1_000)
  door.begun[0]!.answer()
  await door.settled()
  assert.equal(door.begun.length, 3)
  assert.equal(door.begun[2]!.call.ask?.tenant, 'b')
  door.begun[1]!.answer()
  await door.settled()
  assert.deepEqual(late.map(({ outcome }) => outcome), ['deadline_unreachable', 'deadline_unreachable', 'deadline_unreachable']) // prettier-ignore
  assert.deepEqual([patient.outcome, await door.count('rejected_deadline')], [null, 3])
})

test('after a pause of the loop longer than the longest wait, those who waited for so long have expired', async () => {
  const door = new TestDoor({ waitMaxMs: 2_000 })
  door.ask()
  door.ask()
  const waited = door.ask()
  await door.settled()
  stall(door, 2_000)
  door.begun[0]!.answer()
  await door.settled()
  assert.deepEqual([waited.outcome, await door.count('expired')], ['overloaded', 1])
  assert.deepEqual(door.sight, { limit: 2, inFlight: 1, waiting: 0 })
})

test('a target bounds the wait, too', async () => {
  const door = new TestDoor({ ttftTargetMs: 1_000 })
  const asked = [door.ask(), door.ask(), door.ask()]
  door.clock.advance(450)
  await door.settled()
  assert.equal(asked[2]!.outcome, 'overloaded')
})

test('models have doors of their own; a model by its alias has the same', async () => {
  const door = new TestDoor()
  door.ask()
  door.ask({ model: 'other' })
  const waits = door.ask({ model: 'other' })
  const free = door.ask({ model: 'n' })
  await door.settled()
  assert.deepEqual([door.begun.length, door.sight.waiting, waits.outcome, free.outcome], [3, 1, null, null])
  door.ask({ model: 'gone' })
  assert.equal(door.begun.length, 4, 'what nobody serves is refused behind the door')
})

test('a model that is gone is no longer shown, once nobody asks it any more', async () => {
  const door = new TestDoor()
  door.ask()
  door.ask({ model: 'n' })
  door.gone.add('m')
  const shown = async () => (await door.metrics.expose()).match(/autoglm_admission_limit\{model="[mn]"\}/g)
  assert.equal((await shown())?.length, 2)
  door.begun[0]!.answer()
  await door.settled()
  assert.deepEqual(await shown(), ['autoglm_admission_limit{model="n"}'])
})

test('more models than are kept cost one that is idle each, and those that are gone go first', async () => {
  const door = new TestDoor()
  const names = () => [...door.admission.look()].map(({ model }) => model)
  door.ask({ model: 'busy' })
  for (let i = 0; i < 1_100; i += 1) {
    door.ask({ model: `m${i}` })
    door.begun.at(-1)!.answer()
    await door.settled()
  }
  const kept = names()
  assert.equal(kept.length, 1_024)
  assert.ok(kept.includes('busy'))
  for (let i = 0; i < 1_000; i += 1) door.gone.add(`m${i}`)
  for (let i = 0; i < 70; i += 1) {
    door.ask({ model: `next${i}` })
    door.begun.at(-1)!.answer()
    await door.settled()
  }
  const last = names()
  assert.ok(
    ['busy', 'next0', 'next69'].every((name) => last.includes(name)),
    last.join(),
  )
  // Those that are gone are found a few at a time: until then others had to go.
  assert.ok(last.length > 160 && last.length <= 171, `${last.length} are kept`)
})

test('turned off, everybody goes through', () => {
  const door = new TestDoor({ enabled: false })
  for (let i = 0; i < 50; i += 1) door.ask()
  assert.equal(door.begun.length, 50)
})

test('calls without an ask are of the default tier, and one tenant', async () => {
  const door = new TestDoor()
  for (let i = 0; i < 3; i += 1) door.ask({ silent: true })
  await door.settled()
  assert.equal(await door.metric('autoglm_admission_waiting{model="m",tier="default"}'), 1)
})

test('stopping sends away who waits, and leaves alone who is under way; it may be done twice, or before the start', async () => {
  const door = new TestDoor()
  await door.admission.stop()
  await door.admission.start()
  const asked = [door.ask(), door.ask(), door.ask()]
  await door.admission.stop()
  await door.admission.stop()
  await door.settled()
  assert.deepEqual(
    asked.map(({ outcome }) => outcome),
    [null, null, 'shutting_down'],
  )
  assert.equal(door.sight.inFlight, 2)
})

test('instances that come let more in within a second', async () => {
  const door = new TestDoor()
  for (let i = 0; i < 6; i += 1) door.ask()
  door.capacity = { slots: 6, start: 6, inFlightMax: 0 }
  door.clock.advance(1_000)
  door.begun[0]!.answer()
  await door.settled()
  assert.deepEqual(door.sight, { limit: 6, inFlight: 5, waiting: 0 })
})

test('an understated fleet is found out by first bytes in good time, one place for each', async () => {
  const door = new TestDoor({ waitingMax: 1_000 })
  for (let i = 0; i < 200; i += 1) door.ask()
  for (let round = 0; round < 6; round += 1) {
    door.clock.advance(20)
    for (const { sink } of door.begun.splice(0)) sink.head(head)
    await door.settled()
  }
  // Each round has as many first bytes as the round before has let in.
  assert.equal(door.sight.limit, 2 + 6 * 2)
})

test('answers from a cache, refusals and second attempts say nothing of the fleet', async () => {
  const door = new TestDoor({ waitingMax: 1_000 })
  for (let i = 0; i < 20; i += 1) door.ask()
  for (const odd of [{ attempts: 0 }, { attempts: 2 }, { status: 400 }]) {
    for (const { sink } of door.begun) sink.head({ ...head, ...odd })
    await door.settled()
    assert.equal(door.sight.limit, 2)
  }
})

test('refusals of a full fleet lower the limit; those of one that is down, or of the caller, do not', async () => {
  const after = async (code: Parameters<typeof fail>[0], slots: number) => {
    const door = new TestDoor({ waitingMax: 100 })
    door.capacity = { slots: 40, start: 40, inFlightMax: 0 }
    for (let i = 0; i < 60; i += 1) door.ask()
    door.capacity = { slots, start: slots, inFlightMax: 0 }
    for (const begun of door.begun.slice(0, 20)) begun.fail(fail(code))
    await door.settled()
    door.clock.advance(1_000)
    door.begun.at(-1)!.answer()
    await door.settled()
    return door.sight.limit
  }
  for (const code of ['engine_overloaded', 'rate_limited', 'no_instance'] as const) {
    const limit = await after(code, 40)
    assert.ok(limit >= 20 && limit < 25, `${limit} after ${code}`)
  }
  assert.equal(await after('no_instance', 0), 40)
  assert.equal(await after('upstream_failed', 40), 40)
  assert.equal(await after('context_length_exceeded', 40), 40)
})

test('a clock table: who is under way, who waits, and who has given up, moment by moment', async () => {
  const door = new TestDoor({ waitMaxMs: 1_000, waitingMax: 3 })
  const asked: ReturnType<TestDoor['ask']>[] = []
  const at: Record<number, () => void> = {
    0: () => asked.push(door.ask(), door.ask(), door.ask()),
    200: () => asked.push(door.ask({ tier: 'flex' }), door.ask({ tier: 'priority' })),
    400: () => asked.push(door.ask({ tier: 'priority' })),
    600: () => door.begun[0]!.answer(),
    800: () => asked[2]!.abort(),
    900: () => door.begun[1]!.answer(),
    1_100: () => asked.push(door.ask({ deadlineMs: door.clock.now() + 50 })),
    1_300: () => door.begun[2]!.answer(),
  }
  const expected: [ms: number, inFlight: number, waiting: number, over: string[]][] = [
    [0, 2, 1, []],
    [200, 2, 3, []],
    // The line is full: the flexible one leaves it.
    [400, 2, 3, ['3 overloaded']],
    [600, 2, 2, ['0 answered']],
    [800, 2, 1, ['2 client_closed']],
    [900, 2, 0, ['1 answered']],
    // One under way was let in at 600, the other at 900: nothing is free within 50 ms.
    [1_100, 2, 1, []],
    [1_200, 2, 0, ['6 deadline_unreachable']],
    [1_300, 1, 0, ['4 answered']],
  ]
  const seen = new Set<number>()
  for (const [ms, inFlight, waiting, over] of expected) {
    door.clock.advance(ms - door.clock.now())
    at[ms]?.()
    await door.settled()
    const news = asked.flatMap(({ outcome }, i) =>
      outcome === null || seen.has(i) ? [] : [`${i} ${outcome}`],
    )
    for (const text of news) seen.add(Number(text.split(' ')[0]))
    const { sight } = door
    assert.deepEqual([ms, sight.inFlight, sight.waiting, news], [ms, inFlight, waiting, over])
  }
})
