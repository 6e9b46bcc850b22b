import { strict as assert } from 'node:assert'
import { Breaker } from './breaker.ts'
import type { Connections, Endpoint } from './transport.ts'

/** What an instance can be, and what it can become. An impossible transition is a bug and throws. */
const next = {
  starting: ['ready', 'unready', 'crashed', 'stopped'],
  ready: ['unready', 'draining', 'crashed'],
  unready: ['ready', 'draining', 'crashed'],
  crashed: ['starting', 'stopped'],
  draining: ['stopped'],
  stopped: [],
} as const satisfies Record<string, readonly string[]>

export type InstanceState = keyof typeof next
export const instanceStates = Object.keys(next) as readonly InstanceState[]

export type InstanceSpec = {
  /** Unique in the fleet, such as `tiny-0`; stays the same over restarts. */
  id: string
  kind: 'local' | 'remote'
  endpoint: Endpoint
  /** Share of the traffic beside its peers, for the policies that look at it; 1 is the usual. */
  weight: number
  inFlightMax: number
  /** Calls that it works on at once; more wait in it. A remote instance doesn't tell: the configuration says. */
  slots: number
  /** False where nobody has said: then `slots` is a guess. */
  areSlotsKnown: boolean
  /** How its health is asked: `GET <base>/models`, `GET /health`, or not at all. */
  probe: 'models' | 'health' | 'off'
  /** Public model name -> the name this instance knows it by. */
  models: ReadonlyMap<string, string>
  /** Changes with what the answers come from: the model file of a local instance, the URL of a remote one. */
  version?: string
}

/** Time to the first byte, as a moving average; see `latency.ts`. */
export type LatencyEstimate = { estimateMs: number; updatedAtMs: number }

/** One model instance as the router sees it: its contract, its state and its live counts. */
export class Instance {
  readonly id: string
  readonly kind: 'local' | 'remote'
  readonly connections: Connections
  /** Weight, limits and model names may change while it runs; where it listens may not. */
  spec: InstanceSpec
  /** Requests under way there: those of this process, and what other processes of this machine have told. */
  inFlight = 0
  /** Bytes of the request bodies sent to it that wait for the first byte of their answer. */
  waitingBytes = 0
  failuresConsecutive = 0
  ejections = 0
  /** Until then (monotonic ms) the instance gets no traffic: it failed too often. */
  ejectedUntilMs = 0
  /** Until then (monotonic ms) the instance gets no traffic: it said that it is busy. */
  busyUntilMs = 0
  /** Half of its calls fail, or are slow; see `outlier.ts`. */
  readonly breaker = new Breaker()
  readonly latency: LatencyEstimate = { estimateMs: 0, updatedAtMs: 0 }
  #state: InstanceState

  constructor(spec: InstanceSpec, connections: Connections, state: InstanceState = 'starting') {
    this.#state = state
    this.id = spec.id
    this.kind = spec.kind
    this.spec = spec
    this.connections = connections
  }

  get weight(): number {
    return this.spec.weight
  }

  /** Calls that it works on at once. */
  get slots(): number {
    return this.spec.slots
  }

  get state(): InstanceState {
    return this.#state
  }

  /** Use `Registry.move`, which also tells the watchers. */
  become(state: InstanceState): void {
    const allowed: readonly InstanceState[] = next[this.#state]
    assert(allowed.includes(state), `instance ${this.id}: ${this.#state} -> ${state} is not a transition`)
    this.#state = state
  }

  /** `available = ready && !ejected && !busy && inFlight < limit && breaker allows` */
  isAvailable(nowMs: number): boolean {
    return this.hasRoom(nowMs) && this.breaker.allows(nowMs)
  }

  /** Available as far as everything but its breaker says. */
  hasRoom(nowMs: number): boolean {
    return (
      this.#state === 'ready' &&
      this.inFlight < this.spec.inFlightMax &&
      nowMs >= this.ejectedUntilMs &&
      nowMs >= this.busyUntilMs
    )
  }

  /** Whether traffic is meant for it, though it may be full or busy at the moment. */
  isServing(nowMs: number): boolean {
    return this.#state === 'ready' && nowMs >= this.ejectedUntilMs && this.breaker.allows(nowMs)
  }
}
