import { strict as assert } from 'node:assert'
import type { Job } from './job.ts'
import type { Native, Sampler } from './native.ts'

/** A job in a sequence. */
export type Running = {
  job: Job
  sampler: Sampler
  /** Tokens to decode next. */
  pending: number[]
  generated: number
  /** Prompt tokens whose log probabilities are still to come; 0 once the prompt is read. */
  promptLeft: number
}

/** One token, and which indexes of it have logits. The addon copies what it is given, so these are shared. */
const oneToken = new Uint32Array(1)
const firstIndex = Uint32Array.of(0)
const noIndex = new Uint32Array(0)

/**
 * One sequence of the context: what its cache holds, and the job that has it. No method may be called while a batch
 * is being decoded.
 */
export class Sequence {
  readonly index: number
  /** Tokens in the cache. */
  held: number[] = []
  usedAtStep = 0
  running: Running | null = null
  readonly #native: Native
  readonly #contextTokens: number

  constructor(parts: { index: number; native: Native; contextTokens: number }) {
    this.index = parts.index
    this.#native = parts.native
    this.#contextTokens = parts.contextTokens
  }

  /** Cuts the cache to its first `keep` tokens; returns how many are left in truth. */
  cut(keep: number): number {
    if (keep === this.held.length) return keep
    if (keep > 0 && this.#native.cutSequence(this.index, keep)) {
      this.held.length = keep
      return keep
    }
    this.forget()
    return 0
  }

  forget(): void {
    this.#native.clearSequence(this.index)
    this.held = []
  }

  async copyFrom(source: Sequence): Promise<void> {
    // A copy onto what is there already would mix the two.
    this.forget()
    await this.#native.copySequence(this.index, source.index)
    this.held = source.held.slice()
  }

  /** Adds the next `count` pending tokens to the batch; returns the handles of those whose logits are wanted. */
  addPending(count: number): ArrayLike<number> {
    const running = this.running as Running
    const position = this.held.length
    assert(position + count <= this.#contextTokens, 'decoding past the end of the context')
    const isLast = count === running.pending.length
    if (count === 1 && isLast) {
      oneToken[0] = running.pending[0] as number
      return this.#native.addToBatch(this.index, position, oneToken, firstIndex)
    }
    const tokens = Uint32Array.from(running.pending.slice(0, count))
    const last = isLast ? Uint32Array.of(count - 1) : noIndex
    const indexes = running.promptLeft > 0 ? Uint32Array.from(tokens.keys()) : last
    return this.#native.addToBatch(this.index, position, tokens, indexes)
  }

  /** The batch is decoded: its tokens are in the cache. */
  commit(count: number): void {
    const running = this.running as Running
    if (count === 1) this.held.push(running.pending[0] as number)
    else this.held = this.held.concat(running.pending.slice(0, count))
    running.pending = running.pending.slice(count)
  }

  /** Adds a token that nobody asked for, so that a neighbour is not decoded alone. `restore` takes it back. */
  addCompanion(): void {
    if (this.held.length >= this.#contextTokens) this.forget()
    oneToken[0] = this.held[0] ?? 0
    this.#native.addToBatch(this.index, this.held.length, oneToken, noIndex)
  }

  /** Makes the cache what `held` says; false when all had to be forgotten. */
  restore(): boolean {
    const { length } = this.held
    if (length > 0 && this.#native.cutSequence(this.index, length)) return true
    this.forget()
    return length === 0
  }
}
