import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { readCapacity } from '../../../src/gateway/admission/capacity.ts'

type Registry = Parameters<typeof readCapacity>[0]
type Ready = { state: string; slots: number; spec: { inFlightMax: number; areSlotsKnown: boolean } }

const registryOf = (...instances: Ready[]): Registry => ({ of: () => instances }) as unknown as Registry

test('the instances of a model that are ready count together, those of others by what they take in', () => {
  const registry = registryOf(
    { state: 'ready', slots: 4, spec: { inFlightMax: 8, areSlotsKnown: true } },
    { state: 'ready', slots: 2, spec: { inFlightMax: 32, areSlotsKnown: false } },
    { state: 'starting', slots: 100, spec: { inFlightMax: 100, areSlotsKnown: true } },
  )
  assert.deepEqual(readCapacity(registry, 'm'), { slots: 6, inFlightMax: 40, start: 36 })
})

test('each of several processes has its part, and one at least; no bound stays no bound', () => {
  const registry = registryOf({ state: 'ready', slots: 6, spec: { inFlightMax: 0, areSlotsKnown: true } })
  assert.deepEqual(readCapacity(registry, 'm', 4), { slots: 2, inFlightMax: 0, start: 2 })
  const small = registryOf({ state: 'ready', slots: 1, spec: { inFlightMax: 2, areSlotsKnown: true } })
  assert.deepEqual(readCapacity(small, 'm', 8), { slots: 1, inFlightMax: 1, start: 1 })
})
