import { fail } from '../src/core/errors.ts'
import type { Body } from './call.ts'
import type { LoadedModel } from './model.ts'
import { invalid, show } from './parameters.ts'

/** A prompt as tokens, and as the text that `echo` gives back. */
export type Prompt = { tokens: number[]; text: string }

const promptsMax = 128

/**
 * Reads `prompt` (or the `input` of embeddings): a text, token ids, or an array of either.
 * @throws invalid_request, or context_length_exceeded when one does not fit.
 */
export function parsePrompts(body: Body, param: string, loaded: LoadedModel): Prompt[] {
  const value = body[param] ?? null
  if (value === null) throw invalid(param, 'is missing; give a text, token ids, or an array of either.')
  if (typeof value === 'string') return [promptOfText(value, param, loaded)]
  if (!Array.isArray(value) || value.length === 0) {
    throw invalid(param, `is ${show(value)}; it must be a text, token ids, or an array of either.`)
  }
  const items: unknown[] = value
  if (items.every((item) => typeof item === 'number')) return [promptOfTokens(items, param, loaded)]
  if (items.length > promptsMax) throw invalid(param, `has ${items.length} items; it may have ${promptsMax}.`)
  return items.map((item, i) => {
    const name = `${param}[${i}]`
    if (typeof item === 'string') return promptOfText(item, name, loaded)
    if (Array.isArray(item) && item.length > 0) return promptOfTokens(item as unknown[], name, loaded)
    throw invalid(name, `is ${show(item)}; it must be a text or an array of token ids.`)
  })
}

/**
 * A raw prompt is written by whoever knows the model: names of control tokens in it count as these tokens. For text
 * of others there is the chat route, where they do not.
 */
function promptOfText(text: string, param: string, loaded: LoadedModel): Prompt {
  const tokens = withBeginning(tokenizeBounded(text, { special: true, param }, loaded), loaded)
  assertFits(tokens.length, loaded, param)
  return { tokens, text }
}

function promptOfTokens(tokens: readonly unknown[], param: string, loaded: LoadedModel): Prompt {
  assertFits(tokens.length, loaded, param)
  const last = loaded.vocabulary.size - 1
  for (const [i, token] of tokens.entries()) {
    if (typeof token === 'number' && loaded.vocabulary.has(token)) continue
    throw invalid(`${param}[${i}]`, `is ${show(token)}; the tokens of this model are 0 to ${last}.`)
  }
  const known = tokens as number[]
  return { tokens: known, text: loaded.detokenize(known) }
}

/** Tokens with the one that every prompt of this model begins with; an empty prompt gets one to go on from. */
export function withBeginning(tokens: number[], loaded: LoadedModel): number[] {
  const { beginToken } = loaded
  if (beginToken !== null && tokens[0] !== beginToken) return [beginToken, ...tokens]
  if (tokens.length > 0) return tokens
  const end = loaded.model.tokens.eos ?? loaded.model.tokens.eot
  if (end === null) throw invalid('prompt', 'is empty; this model needs at least one token to go on from.')
  return [end]
}

/** Tokenises on the main thread; a text that cannot fit is refused before it costs seconds. */
export function tokenizeBounded(
  text: string,
  options: { special: boolean; param: string },
  loaded: LoadedModel,
): number[] {
  if (text === '') return []
  // Short texts need no bound, and the bound needs a walk over the vocabulary.
  if (text.length > 65_536) {
    const tokensMin = Math.floor(Buffer.byteLength(text) / loaded.vocabulary.longestBytes)
    if (tokensMin >= loaded.contextTokens) throw tooLong(`at least ${tokensMin}`, loaded, options.param)
  }
  return loaded.tokenize(text, options.special)
}

/** @throws context_length_exceeded when not even one new token would fit behind the prompt. */
export function assertFits(promptTokens: number, loaded: LoadedModel, param: string): void {
  if (promptTokens >= loaded.contextTokens) throw tooLong(String(promptTokens), loaded, param)
}

function tooLong(promptTokens: string, loaded: LoadedModel, param: string) {
  return fail('context_length_exceeded', {
    message:
      `The prompt has ${promptTokens} tokens; the context of this model holds ${loaded.contextTokens}, ` +
      'prompt and reply together. Shorten the prompt.',
    param,
  })
}
