import type { LlamaGrammar } from 'node-llama-cpp'
import type { SamplerConfig } from './native.ts'

/** Log probabilities at one position, before any sampling parameter: what the model itself thinks. */
export type TokenLogprobs = {
  token: number
  logprob: number
  /** The most likely tokens, best first. */
  top: { token: number; logprob: number }[]
}

/** Why a sequence ended: the model's own end token, the token limit, or its sink had enough. */
export type EndReason = 'end' | 'length' | 'enough'

/** One sequence to generate, and who is told about it. Every call comes from the scheduler's own loop. */
export type Job = {
  prompt: readonly number[]
  /** Tokens to generate at most; 0 reads the prompt only. */
  tokensMax: number
  sampling: SamplerConfig
  /** The grammar that the reply must follow. */
  grammar: LlamaGrammar | null
  /** Most likely tokens to report beside each sampled one; null for no log probabilities. */
  topLogprobs: number | null
  /** Whether log probabilities of the prompt are wanted too. */
  promptLogprobs: boolean
  /** Whether the model's end token is to be avoided. */
  ignoreEnd: boolean
  /**
   * The same job must give the same text, whatever else runs: nothing is taken from a cache, and batches are made so
   * that company makes no difference.
   */
  exact: boolean
  /** The job whose prompt is the same and is read first, so that this one finds it in the cache. */
  after: Job | null
  sink: JobSink
}

export type JobSink = {
  /** The prompt goes into a sequence; `cached` of its tokens were there already. */
  onStart(cached: number): void
  /** Log probabilities of prompt tokens 1…n-1, in order, in one or more parts. */
  onPromptLogprobs?(part: TokenLogprobs[]): void
  /** A token; false when no more are wanted. */
  onToken(token: number, logprobs: TokenLogprobs | null): boolean
  /** Called once the next decoding is under way: the time to write what the tokens have become. */
  onFlush(): void
  onEnd(reason: EndReason): void
  onError(error: unknown): void
}
