import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import fc from 'fast-check'
import { Heap } from '../../../src/gateway/admission/heap.ts'
import { WaitingLine, type Tiered } from '../../../src/gateway/admission/waiting-line.ts'

type Named = Tiered & { name: string }

let arrivals = 0
const waiter = (name: string, more: Partial<Named> = {}): Named => ({
  ...{
    name,
    tenant: 'a',
    weight: 1,
    tokens: 100,
    tier: 'default',
    latestStartMs: Infinity,
    deadlineMs: Infinity,
  },
  order: (arrivals += 1),
  arrivedAtMs: 0,
  ...more,
})

const fill = (line: WaitingLine<Named>, waiters: readonly Named[], waitingMax = 1_000) => {
  for (const one of waiters) assert.equal(line.offer(one, waitingMax), null)
}
const moment = { nowMs: 1, waitMaxMs: 10_000, msPerPlace: 10 }
const take = (line: WaitingLine<Named>, count: number, at = moment) =>
  Array.from({ length: count }, () => line.take(at)?.name)

const many = (name: string, count: number, more: Partial<Named> = {}) =>
  Array.from({ length: count }, (_, i) => waiter(`${name}${i}`, more))

test('one tenant is served in order of arrival', () => {
  const line = new WaitingLine<Named>()
  fill(line, many('a', 5))
  assert.deepEqual(take(line, 6), ['a0', 'a1', 'a2', 'a3', 'a4', undefined])
  assert.equal(line.size, 0)
})

test('tenants take turns however many wait, and whoever comes later is not behind them all', () => {
  const line = new WaitingLine<Named>()
  fill(line, many('a', 100))
  take(line, 50)
  fill(line, many('b', 3, { tenant: 'b' }))
  const next = take(line, 7)
  assert.equal(next.filter((name) => name?.startsWith('b')).length, 3, next.join())
})

test('a tenant of twice the weight, or of requests half as large, is let in twice as often', () => {
  for (const more of [{ weight: 2 }, { tokens: 50 }]) {
    const line = new WaitingLine<Named>()
    fill(line, [...many('a', 90), ...many('b', 90, { tenant: 'b', ...more })])
    const names = take(line, 60)
    const own = names.filter((name) => name?.startsWith('b')).length
    assert.ok(own >= 39 && own <= 41, `${own} of 60`)
  }
})

test('what leaves the line unserved costs its tenant nothing', () => {
  const line = new WaitingLine<Named>()
  const gone = many('a', 50, { tokens: 10_000 })
  fill(line, gone)
  fill(line, many('b', 10, { tenant: 'b' }))
  for (const one of gone) assert.ok(line.delete(one))
  assert.equal(line.delete(gone[0]!), false)
  fill(line, many('A', 10))
  assert.equal(take(line, 10).filter((name) => name?.startsWith('A')).length, 5)
})

test('whose time has passed is taken out without a turn of its tenant', () => {
  const line = new WaitingLine<Named>()
  fill(line, [...many('late', 3, { deadlineMs: 1 }), ...many('a', 2), ...many('b', 2, { tenant: 'b' })])
  assert.deepEqual(take(line, 5), ['late0', 'late1', 'late2', 'a0', 'b0'])
})

test('a tenant that comes back at once has not become new', () => {
  const line = new WaitingLine<Named>()
  fill(line, many('b', 20, { tenant: 'b' }))
  const names: (string | undefined)[] = []
  for (let i = 0; i < 10; i += 1) {
    fill(line, [waiter('a', { tokens: 300 })])
    names.push(...take(line, 2))
  }
  const share = names.filter((name) => name === 'a').length
  assert.ok(share <= 6, `${share} of 20 turns at three times the cost`)
})

test('urgent bands go first; an aged one has one turn of four', () => {
  const line = new WaitingLine<Named>()
  fill(line, [...many('f', 10, { tier: 'flex' }), ...many('d', 20), ...many('p', 4, { tier: 'priority' })])
  assert.deepEqual(take(line, 6), ['p0', 'p1', 'p2', 'p3', 'd0', 'd1'])
  const later = take(line, 8, { ...moment, nowMs: 6_000 })
  assert.equal(later.filter((name) => name?.startsWith('f')).length, 2, later.join())
})

test('when it is full, the least urgent leave first, and the last of whoever has most', () => {
  const line = new WaitingLine<Named>()
  fill(line, [...many('f', 2, { tier: 'flex' }), ...many('a', 3), waiter('b', { tenant: 'b' })], 6)
  const displace = (newcomer: Named) => line.offer(newcomer, 6)?.name
  assert.equal(displace(waiter('p', { tier: 'priority' })), 'f1')
  assert.equal(displace(waiter('c', { tenant: 'c' })), 'f0')
  assert.equal(displace(waiter('flex', { tier: 'flex' })), 'flex')
  assert.equal(displace(waiter('a3')), 'a3', 'nobody has more than its own tenant')
  assert.equal(displace(waiter('b1', { tenant: 'b' })), 'a2')
  assert.equal(displace(waiter('b2', { tenant: 'b' })), 'b2', 'as many as the others have')
  assert.equal(line.size, 6)
  assert.equal(new WaitingLine<Named>().offer(waiter('x'), 0)?.name, 'x')
})

test('a deadline that would be missed goes first: at once before its own tenant, in one turn of four before others', () => {
  const line = new WaitingLine<Named>()
  fill(line, many('a', 10))
  fill(line, [waiter('late', { latestStartMs: 5_000 }), waiter('soon', { latestStartMs: 50 })])
  assert.deepEqual(take(line, 2), ['soon', 'a0'], 'the other has time')

  const shared = new WaitingLine<Named>()
  fill(shared, many('a', 8))
  fill(shared, many('u', 40, { tenant: 'u', tokens: 100_000, latestStartMs: 60 }))
  const names = take(shared, 12)
  const urgent = names.filter((name) => name?.startsWith('u')).length
  assert.ok(urgent >= 3 && urgent <= 4, names.join())
})

test("a tenant's line that never empties allows a quarter of the wait; one that was empty allows all again", () => {
  const line = new WaitingLine<Named>()
  const old = waiter('old')
  const a = { tenant: 'a', tier: 'default' } as const
  fill(line, [old])
  assert.equal(line.readWaitMs(a, 9_999, 10_000), 10_000)
  assert.equal(line.readWaitMs(a, 10_000, 10_000), 2_500)
  assert.equal(line.readWaitMs({ ...a, tier: 'flex' }, 10_000, 10_000), 10_000)
  assert.equal(line.readWaitMs({ ...a, tenant: 'b' }, 10_000, 10_000), 10_000)
  const at = { nowMs: 10_000, waitMaxMs: 10_000 }
  assert.equal(line.findStale({ ...at, keep: 0 }), old)
  assert.equal(line.findStale({ ...at, keep: 1 }), undefined)
  line.delete(old)
  assert.equal(line.readWaitMs(a, 10_000, 10_000), 2_500, 'nobody was served: it is as full as before')
  line.rest(10_000)
  assert.equal(line.readWaitMs(a, 10_001, 10_000), 10_000)
  fill(line, [waiter('next', { arrivedAtMs: 10_001 })])
  take(line, 1)
  assert.equal(line.readWaitMs(a, 30_000, 10_000), 10_000)
})

test('who is ahead: all of the more urgent, and of equals as many as the others get meanwhile', () => {
  const line = new WaitingLine<Named>()
  fill(line, [...many('p', 3, { tier: 'priority' }), ...many('a', 20), ...many('b', 2, { tenant: 'b' })])
  assert.equal(line.countAhead(waiter('x', { tier: 'priority' })), 3)
  assert.equal(line.countAhead(waiter('x')), 3 + 22)
  assert.equal(line.countAhead(waiter('x', { tenant: 'b' })), 3 + 2 + 3)
  assert.equal(line.countAhead(waiter('x', { tenant: 'c' })), 3 + 2)
  assert.equal(line.countAhead(waiter('x', { tier: 'flex' })), 25)
})

test('a heap gives its items in order, whoever leaves or moves meanwhile', () => {
  const action = fc.record({
    kind: fc.constantFrom('add', 'delete', 'move', 'take'),
    n: fc.nat(100),
    at: fc.nat(30),
  })
  fc.assert(
    fc.property(fc.array(action, { maxLength: 200 }), (actions) => {
      const heap = new Heap<{ n: number }>((one, other) => one.n < other.n)
      const items: { n: number }[] = []
      for (const { kind, n, at } of actions) {
        const item = items[at % Math.max(1, items.length)]
        if (kind === 'add') {
          const added = { n }
          items.push(added)
          heap.add(added)
        } else if (item && kind === 'move') {
          item.n = n
          heap.move(item)
        } else if (item) {
          const gone = kind === 'take' ? heap.first! : item
          heap.delete(gone)
          items.splice(items.indexOf(gone), 1)
        }
        assert.equal(heap.size, items.length)
        assert.equal(heap.first?.n, items.length === 0 ? undefined : Math.min(...items.map((each) => each.n)))
      }
    }),
  )
})
