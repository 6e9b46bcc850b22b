import type { LlamaEmbeddingContext, Token } from 'node-llama-cpp'
import { fail } from '../src/core/errors.ts'
import { type Body, requireModel } from './call.ts'
import type { Engine } from './engine.ts'
import type { LoadedModel } from './model.ts'
import { invalid, show } from './parameters.ts'
import { parsePrompts } from './prompt.ts'

export const inputsWaitingMax = 1024

/** Turns a text into one vector of length 1: pooled as the model names it, or else the mean over its tokens. */
export type Embedder = {
  embed(tokens: readonly number[]): Promise<number[]>
  /**
   * Takes room for inputs under way; the returned function gives it back.
   * @throws engine_overloaded when there is none.
   */
  reserve(inputs: number): () => void
  dispose(): Promise<void>
}

/** The context for embeddings takes memory of its own, so it is made when the first request asks for one. */
export function createEmbedder(loaded: LoadedModel): Embedder {
  let opening: Promise<LlamaEmbeddingContext> | null = null
  let inputsWaiting = 0
  const openContext = () => {
    opening ??= loaded.model
      .createEmbeddingContext({ contextSize: loaded.contextTokens, threads: loaded.threads })
      .catch((error: unknown) => {
        opening = null
        throw fail('unsupported_parameter', {
          message: 'This model gives no embeddings. Use a model made for embeddings.',
          param: 'model',
          cause: error,
        })
      })
    return opening
  }
  return {
    async embed(tokens) {
      const context = await openContext()
      const { vector } = await context.getEmbeddingFor([...tokens] as Token[])
      return normalize(vector)
    },
    reserve(inputs) {
      if (inputsWaiting + inputs > inputsWaitingMax) throw fail('engine_overloaded', { retryAfterMs: 1000 })
      inputsWaiting += inputs
      return () => (inputsWaiting -= inputs)
    },
    async dispose() {
      // One that could not be opened leaves nothing to close.
      await (await opening?.catch(() => null))?.dispose()
    },
  }
}

/** The vector scaled to length 1, so that a dot product is the cosine. */
export function normalize(vector: readonly number[]): number[] {
  const length = Math.hypot(...vector)
  return length === 0 ? [...vector] : vector.map((value) => value / length)
}

const allowed = new Set(['model', 'input', 'encoding_format', 'user', 'dimensions'])

/** POST /v1/embeddings. */
export async function embed(body: Body, engine: Engine, signal: AbortSignal) {
  for (const [name, value] of Object.entries(body)) {
    if (allowed.has(name) && (name !== 'dimensions' || value === null)) continue
    throw fail('unsupported_parameter', {
      message:
        name === 'dimensions'
          ? '`dimensions` is not supported: vectors come whole. Leave it out.'
          : `${show(name)} is not a parameter of this route. Leave it out.`,
      param: name.slice(0, 60),
    })
  }
  requireModel(body, engine.loaded)
  const format = body['encoding_format'] ?? 'float'
  if (format !== 'float' && format !== 'base64') {
    throw invalid('encoding_format', `is ${show(format)}; it must be "float" or "base64".`)
  }
  const inputs = parsePrompts(body, 'input', engine.loaded)
  const giveBack = engine.embedder.reserve(inputs.length)
  try {
    const data: unknown[] = []
    for (const [index, { tokens }] of inputs.entries()) {
      // Between two decoding steps: two contexts at once would fight over the same threads.
      const vector = await engine.scheduler.between(() => {
        signal.throwIfAborted()
        return engine.embedder.embed(tokens)
      })
      data.push({ object: 'embedding', index, embedding: format === 'float' ? vector : toBase64(vector) })
    }
    const tokens = inputs.reduce((sum, input) => sum + input.tokens.length, 0)
    const usage = { prompt_tokens: tokens, total_tokens: tokens }
    return { object: 'list', data, model: engine.loaded.name, usage }
  } finally {
    giveBack()
  }
}

/** OpenAI's binary form: 32-bit floats, little-endian. */
export function toBase64(vector: readonly number[]): string {
  const bytes = Buffer.alloc(vector.length * 4)
  for (const [i, value] of vector.entries()) bytes.writeFloatLE(value, i * 4)
  return bytes.toString('base64')
}
