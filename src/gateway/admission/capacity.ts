import type { Registry } from '../../fleet/registry.ts'

/** What the instances of a model that are ready can take, together. */
export type Capacity = {
  /** Requests that they work on at once. */
  slots: number
  /** Requests that they take in at all; 0 for no bound. */
  inFlightMax: number
  /** Live requests that they are given before anything is known of how they fare. */
  start: number
}

/**
 * Instances that rest for a moment count: what they hold is still there, and so are they soon. Of several processes
 * that share them and get as many connections each, every one has its part, and one request at least.
 */
export function readCapacity(registry: Pick<Registry, 'of'>, model: string, processes = 1): Capacity {
  const capacity = { slots: 0, inFlightMax: 0, start: 0 }
  for (const { state, slots, spec } of registry.of(model)) {
    if (state !== 'ready') continue
    capacity.slots += slots
    capacity.inFlightMax += spec.inFlightMax
    // Nobody has said what a server of others can take: it is trusted until it slows down.
    capacity.start += spec.areSlotsKnown ? slots : spec.inFlightMax
  }
  if (processes === 1) return capacity
  return {
    slots: Math.ceil(capacity.slots / processes),
    inFlightMax: Math.ceil(capacity.inFlightMax / processes),
    start: Math.ceil(capacity.start / processes),
  }
}
