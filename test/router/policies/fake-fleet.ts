import { observeLatency } from '../../../src/fleet/latency.ts'
import type { Candidate, Policy, PolicyCall } from '../../../src/router/policies/policy.ts'

export function makeCandidate(
  id: string,
  state: {
    weight?: number
    inFlight?: number
    waitingBytes?: number
    estimateMs?: number
    updatedAtMs?: number
  } = {},
): Candidate {
  return Object.freeze({
    id,
    weight: state.weight ?? 1,
    inFlight: state.inFlight ?? 0,
    waitingBytes: state.waitingBytes ?? 0,
    latency: Object.freeze({ estimateMs: state.estimateMs ?? 0, updatedAtMs: state.updatedAtMs ?? 0 }),
  })
}

export function makeCall(parts: { sessionKey?: string | null; blocks?: readonly number[] } = {}): PolicyCall {
  return { sessionKey: parts.sessionKey ?? null, prefixBlocks: () => parts.blocks ?? [] }
}

/** An instance whose counts change as in production; a policy that writes to it throws, for there are getters only. */
export class FakeInstance implements Candidate {
  readonly id: string
  readonly weight: number
  /** How long its first byte takes for each request in flight. */
  readonly msPerRequest: number
  picks = 0
  #counts = { inFlight: 0, waitingBytes: 0 }
  #latency = { estimateMs: 0, updatedAtMs: 0 }

  constructor(id: string, options: { weight?: number; msPerRequest?: number } = {}) {
    this.id = id
    this.weight = options.weight ?? 1
    this.msPerRequest = options.msPerRequest ?? 100
  }

  get inFlight(): number {
    return this.#counts.inFlight
  }

  get waitingBytes(): number {
    return this.#counts.waitingBytes
  }

  get latency(): Candidate['latency'] {
    return Object.freeze({ ...this.#latency })
  }

  accept(bytes: number): void {
    this.picks += 1
    this.#counts.inFlight += 1
    this.#counts.waitingBytes += bytes
  }

  answer(bytes: number, nowMs: number): void {
    this.#counts.waitingBytes -= bytes
    observeLatency(this.#latency, this.msPerRequest * this.inFlight, nowMs)
  }

  finish(): void {
    this.#counts.inFlight -= 1
  }
}

/**
 * Sends requests through a policy with `concurrency` of them in flight at any moment. Each is first answered and then
 * finished, in random order.
 */
export class FakeTraffic {
  readonly #random: () => number
  readonly #concurrency: number
  readonly #requestBytes: number
  readonly #makeCall: (number: number) => PolicyCall
  #inFlight: { instance: FakeInstance; bytes: number; answered: boolean }[] = []
  #nowMs = 0
  #sent = 0

  constructor(options: {
    random: () => number
    concurrency: number
    requestBytes?: number
    makeCall: (number: number) => PolicyCall
  }) {
    this.#random = options.random
    this.#concurrency = options.concurrency
    this.#requestBytes = options.requestBytes ?? 2000
    this.#makeCall = options.makeCall
  }

  /** Returns the ids picked, in order. */
  send(policy: Policy, instances: readonly FakeInstance[], requests: number): string[] {
    const picked: string[] = []
    while (picked.length < requests) {
      this.#nowMs += 10
      if (this.#inFlight.length === this.#concurrency) {
        this.#progress()
        continue
      }
      const bytes = Math.ceil(this.#requestBytes * (0.5 + this.#random()))
      const context = { nowMs: this.#nowMs, random: this.#random }
      const instance = policy.pick(instances, this.#makeCall(this.#sent), context)
      instance.accept(bytes)
      this.#sent += 1
      this.#inFlight.push({ instance, bytes, answered: false })
      picked.push(instance.id)
    }
    return picked
  }

  #progress(): void {
    const at = Math.floor(this.#random() * this.#inFlight.length)
    const request = this.#inFlight[at]!
    if (!request.answered) {
      request.answered = true
      request.instance.answer(request.bytes, this.#nowMs)
      return
    }
    request.instance.finish()
    this.#inFlight.splice(at, 1)
  }
}
