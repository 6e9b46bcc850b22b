import type { TokenLogprobs } from './job.ts'
import type { Native, Sampler } from './native.ts'

/** Reads log probabilities off the last batch, as the model gave them: before any bias, penalty or temperature. */
export class LogprobProbe {
  readonly #native: Native
  readonly #sampler: Sampler
  #last: Promise<unknown> = Promise.resolve()

  constructor(native: Native) {
    this.#native = native
    // Greedy sampling leaves the logits as they are, so this sampler can read them.
    this.#sampler = native.createSampler({ temperature: 0, seed: 0 })
  }

  /** One reading after the other: each fills the sampler's list of candidates, on a thread of its own. */
  read(handle: number, token: number, top: number): Promise<TokenLogprobs> {
    const reading = this.#last.then(() => this.#read(handle, token, top))
    this.#last = reading.catch(() => {})
    return reading
  }

  async #read(handle: number, token: number, top: number): Promise<TokenLogprobs> {
    const wanted = { tokens: [token], top: Math.max(1, top) }
    const { pairs, expSum } = await this.#native.readLogits(handle, this.#sampler, wanted)
    const sorted = [...pairs].sort((a, b) => b[1] - a[1])
    const offset = (sorted[0] as [number, number])[1] + Math.log(expSum)
    return {
      token,
      logprob: (pairs.get(token) as number) - offset,
      top: sorted.slice(0, top).map(([id, logit]) => ({ token: id, logprob: logit - offset })),
    }
  }

  dispose(): void {
    this.#sampler.dispose()
  }
}
