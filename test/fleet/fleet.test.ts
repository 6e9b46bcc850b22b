import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { Instance, instanceStates, type InstanceSpec, type InstanceState } from '../../src/fleet/instance.ts'
import { forgive, recordFailure, recordSuccess } from '../../src/fleet/outlier.ts'
import { Registry } from '../../src/fleet/registry.ts'
import { shareThreads } from '../../src/fleet/threads.ts'
import { Connections } from '../../src/fleet/transport.ts'
import { RetryBudget } from '../../src/router/retry-budget.ts'

const timeouts = { connectMs: 100, firstByteMs: 100, idleMs: 100 }

function makeInstance(id: string, more: Partial<InstanceSpec> = {}): Instance {
  const endpoint = { origin: 'http://127.0.0.1:1', basePath: '/v1', socketPath: null, apiKey: null }
  const models = new Map([['m', 'm']])
  const spec: InstanceSpec = {
    id,
    kind: 'remote',
    endpoint,
    weight: 1,
    inFlightMax: 2,
    slots: 2,
    areSlotsKnown: true,
    probe: 'off',
    models,
    ...more,
  }
  return new Instance(spec, new Connections(endpoint, timeouts))
}

function makeReady(id: string): Instance {
  const instance = makeInstance(id)
  instance.become('ready')
  return instance
}

test('an impossible transition throws, every possible one is made', () => {
  const possible: Record<InstanceState, InstanceState[]> = {
    starting: ['ready', 'unready', 'crashed', 'stopped'],
    ready: ['unready', 'draining', 'crashed'],
    unready: ['ready', 'draining', 'crashed'],
    crashed: ['starting', 'stopped'],
    draining: ['stopped'],
    stopped: [],
  }
  const ways: Record<InstanceState, InstanceState[]> = {
    starting: [], ready: ['ready'], unready: ['unready'], crashed: ['crashed'], draining: ['ready', 'draining'], stopped: ['stopped'],
  } // prettier-ignore
  for (const from of instanceStates) {
    for (const to of instanceStates) {
      const instance = makeInstance('a')
      for (const step of ways[from]) instance.become(step)
      if (possible[from].includes(to)) instance.become(to)
      else assert.throws(() => instance.become(to), /is not a transition/, `${from} -> ${to}`)
    }
  }
})

test('available = ready, not ejected, not busy, in flight below the limit', () => {
  const instance = makeInstance('a')
  assert.equal(instance.isAvailable(0), false)
  instance.become('ready')
  assert.equal(instance.isAvailable(0), true)
  instance.ejectedUntilMs = 10
  assert.deepEqual([instance.isAvailable(9), instance.isAvailable(10)], [false, true])
  instance.busyUntilMs = 20
  assert.deepEqual([instance.isAvailable(19), instance.isAvailable(20)], [false, true])
  instance.inFlight = 2
  assert.equal(instance.isAvailable(20), false)
})

test('the registry finds by model, follows changes and tells its watchers', () => {
  const registry = new Registry()
  const events: string[] = []
  const unwatch = registry.watch((event) => events.push(`${event.type} ${event.instance.id}`))
  const [a, b] = [makeInstance('a'), makeInstance('b', { models: new Map([['m', 'x'], ['n', 'n']]) })] // prettier-ignore
  registry.add(a)
  registry.add(b)
  assert.deepEqual(registry.of('m').map(({ id }) => id), ['a', 'b']) // prettier-ignore
  assert.deepEqual(registry.models, ['m', 'n'])
  assert.throws(() => registry.add(a), /instance a is here already/)
  registry.move(a, 'ready')
  registry.move(a, 'ready')
  registry.change(b, { ...b.spec, models: new Map() })
  assert.deepEqual(registry.models, ['m'])
  registry.remove(a)
  registry.remove(a)
  assert.equal(registry.has('m'), false)
  unwatch()
  registry.add(a)
  assert.deepEqual(events, ['added a', 'added b', 'moved a', 'changed b', 'removed a'])
})

const limits = { ejectAfterFailures: 3, ejectBaseMs: 1000, ejectShareMax: 0.5 }

test('failures in a row eject, each time for longer, and a success wipes them', () => {
  const peers = [makeReady('a'), makeReady('b')]
  const [a] = peers as [Instance, Instance]
  assert.equal(recordFailure(a, peers, limits, 0), 0)
  assert.equal(recordFailure(a, peers, limits, 0), 0)
  recordSuccess(a, limits, 0)
  assert.deepEqual([1, 2, 3].map(() => recordFailure(a, peers, limits, 0)), [0, 0, 1000]) // prettier-ignore
  // Late failures of requests that were under way add nothing.
  assert.equal(recordFailure(a, peers, limits, 500), 0)
  // Back again, one more failure is enough.
  assert.equal(recordFailure(a, peers, limits, 1000), 2000)
  recordSuccess(a, limits, 4000)
  assert.equal(a.ejections, 2)
  recordSuccess(a, limits, 5001)
  assert.equal(a.ejections, 0)
  a.ejectedUntilMs = 9_999
  forgive(a)
  assert.equal(a.isAvailable(6000), true)
})

test('never more than a share of the peers is ejected, and a single one never', () => {
  const peers = ['a', 'b', 'c', 'd'].map(makeReady)
  const ejected = peers.filter((peer) => [1, 2, 3].some(() => recordFailure(peer, peers, limits, 0) > 0))
  assert.equal(ejected.length, 2)
  const alone = [makeReady('x')]
  assert.equal([1, 2, 3, 4].some(() => recordFailure(alone[0] as Instance, alone, limits, 0) > 0), false) // prettier-ignore
})

test('threads of all instances stay within the cores, with one left for the others', () => {
  const cases: [number, number, number][] = [[1, 1, 1], [1, 4, 1], [2, 1, 1], [2, 2, 1], [2, 3, 1], [4, 1, 3], [8, 2, 3], [16, 4, 3], [64, 1, 63]] // prettier-ignore
  for (const [cores, instances, threads] of cases) assert.equal(shareThreads({ cores, instances }), threads)
})

test('retries never exceed the reserve plus a share of the requests', () => {
  const budget = new RetryBudget({ ratio: 0.25, reserve: 10, nowMs: 0 })
  const spend = (nowMs: number) => {
    let spent = 0
    while (budget.withdraw(nowMs)) spent += 1
    return spent
  }
  assert.equal(spend(0), 10)
  for (let i = 0; i < 40; i += 1) budget.deposit()
  assert.equal(spend(0), 10)
  assert.equal(spend(5_000), 5)
  assert.equal(spend(3_600_000), 10)
  for (let i = 0; i < 10_000; i += 1) budget.deposit()
  assert.ok(spend(3_600_000) <= 21)
  const none = new RetryBudget({ ratio: 0, reserve: 0, nowMs: 0 })
  assert.equal(none.withdraw(1_000_000), false)
})
