import { randomInt } from 'node:crypto'
import { fail } from '../src/core/errors.ts'
import type { LoadedModel } from './model.ts'
import type { SamplerConfig } from './native.ts'
import { checkParameters, invalid, show, type Route } from './parameters.ts'

/** What both generating routes have in common, parsed and within its limits. */
export type Call = {
  /** null: no limit but the context. */
  tokensMax: number | null
  sampling: SamplerConfig
  stops: string[]
  n: number
  stream: boolean
  includeUsage: boolean
  ignoreEnd: boolean
  /** A seed was given: the same request must give the same text. */
  exact: boolean
}

export type Body = Readonly<Record<string, unknown>>

/**
 * Reads what both routes share. Call it first: it refuses what the table of parameters does not allow, so that the
 * rest may trust the types.
 */
export function parseCall(route: Route, body: Body, loaded: LoadedModel): Call {
  checkParameters(route, body)
  requireModel(body, loaded)
  const stop = body['stop'] ?? []
  const options = body['stream_options'] as { include_usage?: boolean | null } | null | undefined
  const stream = body['stream'] === true
  if (options && !stream) throw invalid('stream_options', 'is only allowed with `stream: true`.')
  return {
    tokensMax: readTokensMax(body),
    sampling: readSampling(body, loaded),
    stops: typeof stop === 'string' ? [stop] : (stop as string[]),
    n: (body['n'] as number | null | undefined) ?? 1,
    stream,
    includeUsage: options?.include_usage === true,
    ignoreEnd: body['ignore_eos'] === true,
    exact: (body['seed'] ?? null) !== null,
  }
}

/** @throws model_not_found when another model is asked for. */
export function requireModel(body: Body, loaded: LoadedModel): void {
  const model = body['model'] ?? null
  if (model === null) throw invalid('model', `is missing; this instance serves ${show(loaded.name)}.`)
  if (model === loaded.name) return
  throw fail('model_not_found', {
    message: `The model ${show(model)} does not exist here; this instance serves ${show(loaded.name)}.`,
    param: 'model',
  })
}

function readTokensMax(body: Body): number | null {
  const old = (body['max_tokens'] ?? null) as number | null
  const current = (body['max_completion_tokens'] ?? null) as number | null
  if (old !== null && current !== null && old !== current) {
    throw invalid('max_tokens', `is ${old} and \`max_completion_tokens\` is ${current}; give one of them.`)
  }
  return current ?? old
}

function readSampling(body: Body, loaded: LoadedModel): SamplerConfig {
  const value = (name: string, standard: number) => (body[name] as number | null | undefined) ?? standard
  const temperature = value('temperature', 1)
  const presence = value('presence_penalty', 0)
  const frequency = value('frequency_penalty', 0)
  const bias = readLogitBias(body, loaded)
  const topK = value('top_k', 0)
  return {
    temperature,
    seed: readSeed(body),
    // Greedy sampling looks at the best token only.
    ...(temperature > 0 && topK > 0 && { topK }),
    ...(temperature > 0 && { topP: value('top_p', 1), minP: value('min_p', 0) }),
    ...((presence !== 0 || frequency !== 0) && {
      repeatPenalty: 1,
      repeatPenaltyTokens: new Uint32Array(),
      repeatPenaltyMaxTokens: loaded.contextTokens,
      repeatPenaltyPresencePenalty: presence,
      repeatPenaltyFrequencyPenalty: frequency,
    }),
    ...bias,
  }
}

/** llama.cpp's seeds have 32 bits; a larger one is folded, so that different ones stay different in both halves. */
function readSeed(body: Body): number {
  const seed = (body['seed'] ?? null) as number | null
  if (seed === null) return randomInt(2 ** 32 - 1)
  const wide = BigInt.asUintN(64, BigInt(seed))
  // The largest value means "at random" to llama.cpp.
  return Math.min(Number((wide ^ (wide >> 32n)) & 0xffff_ffffn), 0xffff_fffe)
}

function readLogitBias(body: Body, loaded: LoadedModel) {
  const entries = Object.entries((body['logit_bias'] ?? {}) as Record<string, number>)
  if (entries.length === 0) return {}
  for (const [token] of entries) {
    if (loaded.vocabulary.has(Number(token))) continue
    throw invalid(
      'logit_bias',
      `names token ${token}; this model has tokens 0 to ${loaded.vocabulary.size - 1}.`,
    )
  }
  return {
    tokenBiasKeys: Uint32Array.from(entries, ([token]) => Number(token)),
    // -100 and 100 are OpenAI's words for never and always; as plain sums a sharp model could still overrule them.
    tokenBiasValues: Float32Array.from(entries, ([, bias]) =>
      bias === -100 ? -Infinity : bias === 100 ? 1000 : bias,
    ),
  }
}
