import { strict as assert } from 'node:assert'
import type { Llama, LlamaContext, LlamaGrammarEvaluationState, LlamaModel } from 'node-llama-cpp'

/**
 * The one door to llama.cpp's own calls. node-llama-cpp's public `evaluate` hides three things that this engine
 * needs: the probabilities before sampling (logprobs), one decision a step over all sequences (continuous batching
 * that overlaps decoding with writing), and copying a prefix from one sequence to another. The calls below are those
 * that its own `LlamaContext` is built on; the version is pinned, and `openNative` fails at start, not in a request,
 * should an update move them.
 */
export type Native = {
  /** Begins a batch of exactly `size` tokens. */
  initBatch(size: number): void
  /** Adds tokens of one sequence at `position`; returns a handle for each of the `logitIndexes`. */
  addToBatch(
    sequence: number,
    position: number,
    tokens: Uint32Array,
    logitIndexes: Uint32Array,
  ): ArrayLike<number>
  /** Decodes the batch off the main thread. No call on the caches may be made until it settles. */
  decodeBatch(): Promise<void>
  /** Samples at a handle of the last batch; -1 when no token is possible. */
  sampleToken(handle: number, sampler: Sampler): Promise<number>
  /** The logits at a handle: the best `top` tokens, the tokens asked for, and the sum of exp(logit - best). */
  readLogits(handle: number, probe: Sampler, wanted: { tokens: number[]; top: number }): Promise<Logits>
  createSampler(config: SamplerConfig): Sampler
  /** Forgets what `sequence` holds from `position` on; false when the model's cache cannot be cut there. */
  cutSequence(sequence: number, position: number): boolean
  clearSequence(sequence: number): void
  /** Copies all that `source` holds over what `target` holds. */
  copySequence(target: number, source: number): Promise<void>
}

export type Logits = { pairs: Map<number, number>; expSum: number }

export type Sampler = { dispose(): void }

export type SamplerConfig = {
  temperature: number
  seed: number
  topK?: number
  topP?: number
  minP?: number
  repeatPenalty?: number
  repeatPenaltyTokens?: Uint32Array
  repeatPenaltyMaxTokens?: number
  repeatPenaltyPresencePenalty?: number
  repeatPenaltyFrequencyPenalty?: number
  tokenBiasKeys?: Uint32Array
  tokenBiasValues?: Float32Array
  grammarEvaluationState?: object
}

type AddonSampler = Sampler & { applyConfig(config: SamplerConfig): void }
type AddonContext = {
  initBatch(size: number): void
  addToBatch(sequence: number, position: number, tokens: Uint32Array, indexes: Uint32Array): Uint32Array
  decodeBatch(): Promise<void>
  sampleToken(handle: number, sampler: Sampler): Promise<number>
  sampleToken(
    handle: number,
    sampler: Sampler,
    probabilities: boolean,
    confidence: boolean,
    logits: [number[], boolean, boolean, boolean, number],
    totalWeight: boolean,
  ): Promise<[number, unknown, unknown, number[] | undefined, number | undefined]>
  disposeSequence(sequence: number): void
  removeTokenCellsFromSequence(sequence: number, start: number, end: number): boolean
  copySequenceStateFromOtherSequence(target: number, source: number): Promise<number>
}
type AddonModel = { getTokenString(token: number): string; getTokenAttributes(token: number): number }

/** The addon's model object: texts and attributes of the vocabulary. */
export function openVocabulary(model: LlamaModel): AddonModel {
  const addon = (model as unknown as { _model?: AddonModel })._model
  assert(
    typeof addon?.getTokenString === 'function',
    'this version of node-llama-cpp keeps its vocabulary elsewhere',
  )
  return addon
}

export function openGrammarState(state: LlamaGrammarEvaluationState): object {
  const addon = (state as unknown as { _state?: object })._state
  assert(addon !== undefined, 'this version of node-llama-cpp keeps its grammar state elsewhere')
  return addon
}

export function openNative(llama: Llama, model: LlamaModel, context: LlamaContext): Native {
  const addon = (context as unknown as { _ctx: AddonContext })._ctx
  const addonModel = openVocabulary(model)
  const Sampler = (llama as unknown as { _bindings: { AddonSampler: new (model: object) => AddonSampler } })
    ._bindings.AddonSampler
  for (const call of [
    'initBatch',
    'addToBatch',
    'decodeBatch',
    'sampleToken',
    'disposeSequence',
    'removeTokenCellsFromSequence',
    'copySequenceStateFromOtherSequence',
  ] as const) {
    assert(typeof addon?.[call] === 'function', `this version of node-llama-cpp has no ${call}`)
  }
  return {
    initBatch: (size) => addon.initBatch(size),
    addToBatch: (sequence, position, tokens, indexes) =>
      addon.addToBatch(sequence, position, tokens, indexes),
    decodeBatch: () => addon.decodeBatch(),
    sampleToken: (handle, sampler) => addon.sampleToken(handle, sampler),
    async readLogits(handle, probe, wanted) {
      const result = await addon.sampleToken(
        handle,
        probe,
        false,
        false,
        [wanted.tokens, false, false, false, wanted.top],
        true,
      )
      const [, , , flat, expSum] = result
      assert(flat !== undefined && expSum !== undefined, 'logits were asked for and not given')
      const pairs = new Map<number, number>()
      for (let i = 0; i + 1 < flat.length; i += 2) pairs.set(flat[i] as number, flat[i + 1] as number)
      return { pairs, expSum }
    },
    createSampler(config) {
      const sampler = new Sampler(addonModel)
      sampler.applyConfig(config)
      return sampler
    },
    cutSequence: (sequence, position) => addon.removeTokenCellsFromSequence(sequence, position, -1),
    clearSequence: (sequence) => addon.disposeSequence(sequence),
    async copySequence(target, source) {
      await addon.copySequenceStateFromOtherSequence(target, source)
    },
  }
}
