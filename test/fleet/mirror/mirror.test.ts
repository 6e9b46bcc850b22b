import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import type { Wire } from '../../../src/core/wire.ts'
import { Breaker, type BreakerLimits } from '../../../src/fleet/breaker.ts'
import { Instance, type InstanceSpec } from '../../../src/fleet/instance.ts'
import { MirrorFleet } from '../../../src/fleet/mirror/mirror-fleet.ts'
import { MirrorHost } from '../../../src/fleet/mirror/mirror-host.ts'
import { Registry } from '../../../src/fleet/registry.ts'
import { Connections } from '../../../src/fleet/transport.ts'
import { ManualClock } from '../../helpers/clock.ts'
import { arrived, joinWires } from '../../helpers/wires.ts'

const limits: BreakerLimits = {
  breakerWindowMs: 10_000,
  breakerCallsMin: 4,
  breakerShare: 0.5,
  breakerOpenMs: 1_000,
}

class Models {
  readonly models = new Map<string, Breaker>()

  breakerOf(model: string): Breaker {
    const breaker = this.models.get(model) ?? new Breaker()
    this.models.set(model, breaker)
    return breaker
  }
}

const endpoint = { origin: 'http://127.0.0.1:9', basePath: '/v1', socketPath: null, apiKey: null }

const spec = (id: string, more: Partial<InstanceSpec> = {}): InstanceSpec => ({
  id,
  kind: 'remote',
  endpoint,
  weight: 1,
  inFlightMax: 10,
  slots: 4,
  areSlotsKnown: true,
  probe: 'off',
  models: new Map([['m', 'm-there']]),
  ...more,
})

type Process = { fleet: MirrorFleet; models: Models; clock: ManualClock; wire: Wire }

/** The process that has the fleet, and those that mirror it. The clock of each began at another time. */
class Machine {
  readonly clock = new ManualClock()
  readonly registry = new Registry()
  readonly models = new Models()
  readonly host = new MirrorHost({ registry: this.registry, models: this.models, clock: this.clock })
  readonly processes: Process[] = []
  readonly #wires: Wire[] = []

  add(id: string, more: Partial<InstanceSpec> = {}): Instance {
    const instance = new Instance(spec(id, more), new Connections(endpoint, { connectMs: 100 }))
    this.registry.add(instance)
    return instance
  }

  async join(): Promise<Process> {
    const [wire, there] = joinWires()
    this.host.attach(there)
    const clock = new ManualClock()
    clock.advance(1_000_000 * (this.processes.length + 1))
    const fleet = new MirrorFleet({ wire, clock, limits: () => ({ connectMs: 100 }) })
    const models = new Models()
    fleet.watchModels(models)
    await fleet.start()
    const process = { fleet, models, clock, wire }
    this.processes.push(process)
    this.#wires.push(there)
    await this.settle()
    return process
  }

  /** Kills one: its end of the wire closes without a word. */
  async kill(process: Process): Promise<void> {
    process.wire.close()
    this.processes.splice(this.processes.indexOf(process), 1)
    await new Promise((resolve) => setImmediate(resolve))
    await this.settle()
  }

  async settle(): Promise<void> {
    await arrived(...this.processes.map(({ wire }) => wire), ...this.#wires)
  }

  async pass(ms: number): Promise<void> {
    for (const { clock } of this.processes) clock.advance(ms)
    await this.settle()
    this.clock.advance(ms)
    await this.settle()
  }
}

async function startMachine(): Promise<Machine> {
  const machine = new Machine()
  await machine.host.start()
  return machine
}

const mirrored = ({ fleet }: Process, id: string): Instance => {
  const found = fleet.registry.all.find((instance) => instance.id === id)
  assert.ok(found, `${id} is not mirrored`)
  return found
}

test('instances come, change, move and go in the mirror as they do in the fleet', async () => {
  const machine = await startMachine()
  const early = machine.add('early')
  machine.registry.move(early, 'ready')
  machine.registry.move(early, 'draining')
  const process = await machine.join()
  assert.equal(mirrored(process, 'early').state, 'draining')

  const late = machine.add('late')
  machine.registry.move(late, 'ready')
  machine.registry.change(late, { ...late.spec, weight: 3, models: new Map([['other', 'x']]) })
  machine.registry.move(early, 'stopped')
  machine.registry.remove(early)
  await machine.settle()
  assert.deepEqual(process.fleet.registry.models, ['other'])
  assert.equal(mirrored(process, 'late').weight, 3)
  assert.equal(mirrored(process, 'late').state, 'ready')
  assert.equal(process.fleet.registry.all.length, 1)
})

test('a successor of the same id is told from the one that drains', async () => {
  const machine = await startMachine()
  const old = machine.add('a')
  machine.registry.move(old, 'ready')
  const process = await machine.join()
  const next = machine.add('a', { weight: 2 })
  machine.registry.move(next, 'ready')
  machine.registry.move(old, 'draining')
  await machine.settle()
  const states = process.fleet.registry.all.map(({ weight, state }) => `${weight} ${state}`)
  assert.deepEqual(states, ['1 draining', '2 ready'])
})

test('counts are those of the whole machine within two ticks, and those of a dead process are gone at once', async () => {
  const machine = await startMachine()
  const real = machine.add('a', { inFlightMax: 5 })
  machine.registry.move(real, 'ready')
  const [one, other] = [await machine.join(), await machine.join()]
  mirrored(one, 'a').inFlight += 3
  mirrored(one, 'a').waitingBytes += 300
  mirrored(other, 'a').inFlight += 1
  real.inFlight += 1
  await machine.pass(10)
  await machine.pass(10)
  for (const instance of [real, mirrored(one, 'a'), mirrored(other, 'a')]) {
    assert.equal(instance.inFlight, 5)
    assert.equal(instance.waitingBytes, 300)
    assert.equal(instance.isAvailable(2_000_000), false, 'it is full, whoever looks')
  }
  mirrored(other, 'a').inFlight -= 1
  await machine.pass(10)
  await machine.pass(10)
  assert.deepEqual([real.inFlight, mirrored(one, 'a').inFlight, mirrored(other, 'a').inFlight], [4, 4, 4])
  await machine.kill(one)
  assert.equal(real.inFlight, 1)
  await machine.pass(10)
  assert.equal(mirrored(other, 'a').inFlight, 1)
  assert.equal(mirrored(other, 'a').waitingBytes, 0)
  const third = await machine.join()
  await machine.pass(10)
  assert.equal(mirrored(third, 'a').inFlight, 1, 'who comes later knows what is under way')
})

test('nothing is told while nothing changes', async () => {
  const machine = await startMachine()
  machine.registry.move(machine.add('a'), 'ready')
  const process = await machine.join()
  let told = 0
  process.wire.on('counts', () => (told += 1))
  process.wire.on('rests', () => (told += 1))
  for (let i = 0; i < 5; i += 1) await machine.pass(10)
  assert.equal(told, 0)
})

test('an ejection and a busy instance are known everywhere for as long as they last, by clocks of their own', async () => {
  const machine = await startMachine()
  const real = machine.add('a')
  machine.registry.move(real, 'ready')
  const [one, other] = [await machine.join(), await machine.join()]
  const seen = mirrored(one, 'a')
  seen.ejectedUntilMs = one.clock.now() + 500
  seen.ejections = 2
  await machine.pass(10)
  const there = mirrored(other, 'a')
  assert.ok(there.ejectedUntilMs > other.clock.now() + 480)
  assert.ok(there.ejectedUntilMs <= other.clock.now() + 500)
  assert.equal(there.ejections, 2)
  assert.ok(real.ejectedUntilMs > machine.clock.now())
  const third = await machine.join()
  assert.equal(mirrored(third, 'a').isServing(third.clock.now()), false, 'who comes later knows of it')

  mirrored(other, 'a').busyUntilMs = other.clock.now() + 50
  await machine.pass(10)
  assert.ok(seen.busyUntilMs > one.clock.now())
  await machine.pass(1_000)
  for (const process of machine.processes) {
    assert.equal(mirrored(process, 'a').isAvailable(process.clock.now()), true)
  }
})

test('what a process has to tell of an instance is told although it hears of the same one before', async () => {
  const machine = await startMachine()
  machine.registry.move(machine.add('a'), 'ready')
  const [one, other] = [await machine.join(), await machine.join()]
  mirrored(one, 'a').ejectedUntilMs = one.clock.now() + 5_000
  mirrored(other, 'a').busyUntilMs = other.clock.now() + 5_000
  // The first tells; the second hears of it before its own turn to tell has come.
  one.clock.advance(10)
  await machine.settle()
  assert.ok(mirrored(other, 'a').ejectedUntilMs > other.clock.now())
  other.clock.advance(10)
  await machine.settle()
  assert.ok(mirrored(one, 'a').busyUntilMs > one.clock.now(), 'it is busy, and nobody knows')
})

test('a breaker that opens opens everywhere; the trial that closes it closes it everywhere, and is counted once', async () => {
  const machine = await startMachine()
  const real = machine.add('a')
  machine.registry.move(real, 'ready')
  const [one, other] = [await machine.join(), await machine.join()]
  const call = {}
  const trips = [mirrored(one, 'a').breaker, one.models.breakerOf('m')]
  for (const breaker of trips) breaker.trip(one.clock.now(), limits)
  await machine.pass(10)
  const follows = [mirrored(other, 'a').breaker, other.models.breakerOf('m')]
  for (const breaker of [...follows, real.breaker, machine.models.breakerOf('m')]) {
    assert.equal(breaker.state, 'open')
    assert.equal(breaker.entries.open, 0)
  }
  assert.equal(follows[0]?.allows(other.clock.now()), false)

  await machine.pass(1_000)
  for (const breaker of follows) {
    breaker.enter(call, other.clock.now())
    breaker.note('success', call, other.clock.now(), limits)
    breaker.leave(call)
  }
  await machine.pass(10)
  for (const breaker of [...trips, real.breaker]) assert.equal(breaker.state, 'closed')
})

test('a new process under the old name is forgiven everywhere', async () => {
  const machine = await startMachine()
  const real = machine.add('a')
  machine.registry.move(real, 'ready')
  const process = await machine.join()
  mirrored(process, 'a').ejectedUntilMs = process.clock.now() + 60_000
  await machine.pass(10)
  for (const state of ['crashed', 'starting', 'ready'] as const) machine.registry.move(real, state)
  await machine.settle()
  assert.equal(mirrored(process, 'a').isAvailable(process.clock.now()), true)
})
