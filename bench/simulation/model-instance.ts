import { BoundedQueue, LruMap } from '../../src/core/bounded.ts'
import type { LatencyEstimate } from '../../src/fleet/instance.ts'
import type { Candidate } from '../../src/router/policies/policy.ts'
import { bytesPerToken, tokensPerBlock, type TracedRequest } from './trace.ts'

/** An engine of the size of an 8B model on one accelerator. */
export type EngineSpec = {
  /** A step with nothing in it: weights are read, kernels launched. */
  stepMs: number
  /** What each decoding sequence adds to a step. */
  stepMsPerSequence: number
  /** Prompt tokens that one step takes in beside the decoding sequences. */
  chunkTokens: number
  prefillTokensPerSecond: number
  sequencesMax: number
  cacheBlocks: number
}

export const engineSpec: EngineSpec = {
  stepMs: 8,
  stepMsPerSequence: 0.25,
  chunkTokens: 512,
  prefillTokensPerSecond: 12_000,
  sequencesMax: 32,
  cacheBlocks: 1000,
}

export type Observe = (latency: LatencyEstimate, sampleMs: number, nowMs: number) => void

/** What became of one request. */
export type Outcome = { ttftMs: number; cachedTokens: number; inputTokens: number; request: TracedRequest }

/**
 * A model instance with continuous batching and chunked prefill: prompts are taken in one after another, in order of
 * arrival, while all running sequences produce one token a step; a longer batch makes a longer step. It is computed
 * as a fluid between events (a prompt is in, a sequence ends), which is exact up to one step.
 * Source: Agrawal et al., Sarathi-Serve, OSDI 2024, https://arxiv.org/abs/2403.02310
 */
export class ModelInstance implements Candidate {
  readonly id: string
  readonly weight: number
  readonly latency: LatencyEstimate = { estimateMs: 0, updatedAtMs: 0 }
  inFlight = 0
  waitingBytes = 0
  /** 1 as specified, 0.5 at half the speed. May change while it runs. */
  speed: number
  prefillBusyMs = 0
  /** Time spent by all running sequences together. */
  sequencesBusyMs = 0
  /** Time in which it had anything to do. */
  busyMs = 0
  readonly #spec: EngineSpec
  readonly #observe: Observe
  readonly #onFirstToken: (outcome: Outcome) => void
  readonly #onEnd: (request: TracedRequest) => void
  #nowMs = 0
  #waiting = new BoundedQueue<TracedRequest>(100_000)
  #prefill: { request: TracedRequest; tokensLeft: number; cachedTokens: number } | null = null
  /** Steps made since the beginning; a running sequence ends at one of them. */
  #steps = 0
  #running: { request: TracedRequest; endStep: number }[] = []
  #cache: LruMap<number, true>

  constructor(options: {
    id: string
    weight: number
    speed: number
    spec: EngineSpec
    observe: Observe
    onFirstToken: (outcome: Outcome) => void
    onEnd?: (request: TracedRequest) => void
  }) {
    this.id = options.id
    this.weight = options.weight
    this.speed = options.speed
    this.#spec = options.spec
    this.#observe = options.observe
    this.#onFirstToken = options.onFirstToken
    this.#onEnd = options.onEnd ?? (() => {})
    this.#cache = new LruMap(options.spec.cacheBlocks)
  }

  accept(request: TracedRequest, nowMs: number): void {
    this.advance(nowMs)
    this.inFlight += 1
    this.waitingBytes += request.inputTokens * bytesPerToken
    this.#waiting.offer(request)
    this.#admit()
  }

  /** When something will next happen by itself. */
  nextEventMs(): number {
    const steps = Math.min(this.#stepsToFirstToken(), this.#stepsToEnd())
    return this.#nowMs + steps * this.#msPerStep()
  }

  /** Lets time pass up to `nowMs`, with all events until then. */
  advance(nowMs: number): void {
    for (let eventMs = this.nextEventMs(); eventMs <= nowMs; eventMs = this.nextEventMs()) {
      const isFirstToken = this.#stepsToFirstToken() <= this.#stepsToEnd()
      this.#flow(eventMs)
      if (isFirstToken) this.#finishPrefill()
      else this.#finishSequence()
      this.#admit()
    }
    this.#flow(nowMs)
  }

  #stepsToFirstToken(): number {
    return this.#prefill === null
      ? Number.POSITIVE_INFINITY
      : this.#prefill.tokensLeft / this.#spec.chunkTokens
  }

  #stepsToEnd(): number {
    let end = Number.POSITIVE_INFINITY
    for (const { endStep } of this.#running) if (endStep < end) end = endStep
    return Math.max(0, end - this.#steps)
  }

  #msPerStep(): number {
    const { stepMs, stepMsPerSequence, chunkTokens, prefillTokensPerSecond } = this.#spec
    const prefillMs = this.#prefill === null ? 0 : (chunkTokens / prefillTokensPerSecond) * 1000
    return (stepMs + stepMsPerSequence * this.#running.length + prefillMs) / this.speed
  }

  #flow(nowMs: number): void {
    const steps = (nowMs - this.#nowMs) / this.#msPerStep()
    if (this.#prefill !== null) {
      this.#prefill.tokensLeft -= steps * this.#spec.chunkTokens
      this.prefillBusyMs += nowMs - this.#nowMs
    }
    if (this.#prefill !== null || this.#running.length > 0) this.busyMs += nowMs - this.#nowMs
    this.sequencesBusyMs += this.#running.length * (nowMs - this.#nowMs)
    this.#steps += steps
    this.#nowMs = nowMs
  }

  #admit(): void {
    if (this.#prefill !== null || this.#running.length >= this.#spec.sequencesMax) return
    const request = this.#waiting.take()
    if (request === undefined) return
    let held = 0
    while (held < request.blocks.length && this.#cache.get(request.blocks[held]!) !== undefined) held += 1
    // The last token is always computed: its output is what the first new token comes from.
    const cachedTokens = Math.min(held * tokensPerBlock, request.inputTokens - 1)
    this.#prefill = { request, tokensLeft: request.inputTokens - cachedTokens, cachedTokens }
  }

  #finishPrefill(): void {
    const { request, cachedTokens } = this.#prefill!
    this.#prefill = null
    // From the end to the beginning: the beginning is then the most recently used, and the tails go first.
    for (const block of request.blocks.toReversed()) this.#cache.set(block, true)
    this.#running.push({ request, endStep: this.#steps + request.outputTokens - 1 })
    const ttftMs = this.#nowMs - request.atMs
    this.#onFirstToken({ ttftMs, cachedTokens, inputTokens: request.inputTokens, request })
    if (request.streamed) this.#showFirstByte(request)
  }

  #finishSequence(): void {
    let first = 0
    for (let i = 1; i < this.#running.length; i += 1) {
      if (this.#running[i]!.endStep < this.#running[first]!.endStep) first = i
    }
    const [{ request } = this.#running[0]!] = this.#running.splice(first, 1)
    if (!request.streamed) this.#showFirstByte(request)
    this.inFlight -= 1
    this.#onEnd(request)
  }

  /** What the router does when the first byte of an answer reaches it. */
  #showFirstByte(request: TracedRequest): void {
    this.waitingBytes -= request.inputTokens * bytesPerToken
    this.#observe(this.latency, this.#nowMs - request.atMs, this.#nowMs)
  }
}
