import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import type { LatencyEstimate } from '../../src/fleet/instance.ts'
import { observeLatency, readLatency } from '../../src/fleet/latency.ts'

const fresh = (): LatencyEstimate => ({ estimateMs: 0, updatedAtMs: 0 })

describe('observeLatency', () => {
  it('takes the first sample as it is', () => {
    const latency = fresh()
    observeLatency(latency, 250, 1_000_000)
    assert.deepEqual(latency, { estimateMs: 250, updatedAtMs: 1_000_000 })
  })

  it('goes two thirds of the way to a sample that comes after a minute', () => {
    const latency: LatencyEstimate = { estimateMs: 1000, updatedAtMs: 0 }
    observeLatency(latency, 100, 60_000)
    assert.ok(Math.abs(latency.estimateMs - (100 + 900 / Math.E)) < 1e-9)
  })

  it('counts a burst of samples as little time, whatever their number', () => {
    const latency: LatencyEstimate = { estimateMs: 1000, updatedAtMs: 0 }
    for (let i = 0; i < 1000; i += 1) observeLatency(latency, 10_000, 600 * (i / 999))
    assert.ok(latency.estimateMs < 1000 + 9000 * 0.011)
  })

  it('stays between the smallest and the largest sample, also when the clock stands still', () => {
    const latency = fresh()
    const samples = [500, 20, 90_000, 3, 700]
    for (const [i, sampleMs] of samples.entries()) observeLatency(latency, sampleMs, i < 3 ? 5 : 100_000 * i)
    assert.ok(latency.estimateMs >= 3 && latency.estimateMs <= 90_000)
  })
})

describe('readLatency', () => {
  it('is the estimate at the moment of the sample and fades from then on', () => {
    const latency = fresh()
    observeLatency(latency, 3000, 1000)
    assert.equal(readLatency(latency, 1000), 3000)
    assert.ok(readLatency(latency, 1000 + 330_000) < 1000)
    assert.equal(latency.estimateMs, 3000, 'reading changes nothing')
  })

  it('is 0 for an instance that has never answered', () => {
    assert.equal(readLatency(fresh(), 1e9), 0)
  })
})
