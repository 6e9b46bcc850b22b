import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { MachineMetrics } from '../../src/processes/machine-metrics.ts'
import type { GatewayProcess } from '../../src/processes/gateway-processes.ts'
import { Counter, Gauge, MetricsRegistry } from '../../src/telemetry/metrics.ts'
import { ManualClock } from '../helpers/clock.ts'
import { arrived, joinWires } from '../helpers/wires.ts'

type Far = { process: GatewayProcess; close(): void }

/** A gateway process as the first one knows it. It has ended `requests`, and `open` are open. */
function startFar(number: number, counted: { requests: number; open: number } | 'hangs'): Far {
  const [near, far] = joinWires()
  if (counted === 'hangs') {
    far.on('read-metrics', () => new Promise(() => {}))
  } else {
    const metrics = new MetricsRegistry()
    const family = (name: string) => ({ name, help: `${name}.`, labelNames: [] })
    new Counter(metrics, family('x_total')).cell().value = counted.requests
    new Gauge(metrics, family('open')).cell().value = counted.open
    far.on('read-metrics', () => metrics.read())
  }
  const close = () => {
    near.close()
    far.close()
  }
  return { process: { number, pid: number, wire: near }, close }
}

function start(serving: readonly GatewayProcess[]) {
  const processes = { serving: [...serving], restarts: 0 }
  const clock = new ManualClock()
  const machine = new MachineMetrics({ metrics: new MetricsRegistry(), processes, clock })
  const read = async (name: string) => {
    const line = (await machine.expose()).split('\n').find((text) => text.startsWith(`${name} `))
    return line && Number(line.split(' ')[1])
  }
  const lose = (process: GatewayProcess) => {
    processes.serving = processes.serving.filter((other) => other !== process)
    machine.forget(process)
  }
  return { machine, processes, clock, read, lose }
}

test('what processes counted stays counted, however many of them end together', async (t) => {
  const fars = Array.from({ length: 11 }, (_, i) => startFar(i + 1, { requests: 1, open: 2 }))
  t.after(() => fars.forEach((far) => far.close()))
  const { machine, read, lose } = start(fars.map(({ process }) => process))
  assert.equal(await read('x_total'), 11)
  assert.equal(await read('open'), 22)
  for (const { process } of fars) lose(process)
  // The first of these is read while the totals are being added up.
  assert.equal(await read('x_total'), 11)
  assert.equal(await read('open'), undefined)
  assert.equal(await read('x_total'), 11)
  // One that nobody knows of, or that is forgotten again, changes nothing.
  machine.forget(fars[0]!.process)
  assert.equal(await read('x_total'), 11)
})

test('a process that ends while others are added up is counted once', async (t) => {
  const fars = Array.from({ length: 30 }, (_, i) => startFar(i + 1, { requests: i, open: 0 }))
  t.after(() => fars.forEach((far) => far.close()))
  const { machine, read, lose } = start(fars.map(({ process }) => process))
  const all = (30 * 29) / 2
  assert.equal(await read('x_total'), all)
  for (const { process } of fars) {
    lose(process)
    await Promise.resolve()
    if (process.number % 7 === 0) void machine.expose()
  }
  assert.equal(await read('x_total'), all)
  assert.equal(await read('x_total'), all)
})

test('a process that does not answer is shown as it was, and holds nobody up for more than a second', async (t) => {
  const fars = [startFar(1, { requests: 3, open: 1 }), startFar(2, 'hangs')]
  t.after(() => fars.forEach((far) => far.close()))
  const { read, clock, processes } = start(fars.map(({ process }) => process))
  const first = read('x_total')
  await arrived(fars[0]!.process.wire)
  clock.advance(1_000)
  assert.equal(await first, 3)
  processes.serving = [fars[0]!.process]
  assert.equal(await read('x_total'), 3)
})
