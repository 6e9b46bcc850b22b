import { fail } from '../src/core/errors.ts'

/**
 * Every parameter of OpenAI's completion and chat routes, in one table: it is read and takes effect, or it has no
 * effect on the reply by its nature (`inert`), or it is refused by name. Nothing is ignored in silence: a name that
 * is not here is refused too. A value of null counts as absent, as at OpenAI.
 */
export type Rule = {
  routes: readonly Route[]
  effect: 'supported' | 'inert' | 'refused'
  /** Throws invalid_request when the value is not allowed. */
  check: (value: unknown, name: string, route: Route) => void
  isHarmless: Harmless
  /** What it does, or why it is refused. */
  note: string
}
/** Whether a value of a refused parameter asks for nothing but what happens anyway. */
type Harmless = (value: unknown, body: Readonly<Record<string, unknown>>) => boolean
export type Route = 'completions' | 'chat'
type Check = (value: unknown, name: string) => void

const both = ['completions', 'chat'] as const
const chat = ['chat'] as const
const completions = ['completions'] as const

export const parameters: Readonly<Record<string, Rule>> = {
  model: supported(both, text({ lengthMax: 200 }), 'The model; it must be the one that this instance serves.'),
  prompt: supported(completions, () => {}, 'A text, an array of token ids, or an array of either.'),
  messages: supported(chat, array({ min: 1, max: 2048 }), 'The conversation, text parts only.'),
  max_tokens: supported(both, tokensMax, 'Tokens to generate at most; completions 16 if absent, chat up to the end of the context.'),
  max_completion_tokens: supported(both, tokensMax, 'The newer name of `max_tokens`; not both with different values.'),
  temperature: supported(both, number({ min: 0, max: 2 }), '0 always takes the most likely token; 1 if absent.'),
  top_p: supported(both, number({ min: 0, max: 1 }), 'Samples from the most likely tokens that reach this share together.'),
  top_k: supported(both, integer({ min: -1, max: 1_000_000 }), 'Samples from this many most likely tokens; 0 and -1 mean all. Not part of the OpenAI API.'),
  min_p: supported(both, number({ min: 0, max: 1 }), 'Leaves out tokens less likely than this share of the most likely one. Not part of the OpenAI API.'),
  seed: supported(both, integer({ min: Number.MIN_SAFE_INTEGER, max: Number.MAX_SAFE_INTEGER }), 'The same seed and the same request give the same text, whatever else runs; such a prompt is not taken from the cache.'),
  stop: supported(both, stop, 'Up to 16 texts that end the reply and are not part of it.'),
  presence_penalty: supported(both, number({ min: -2, max: 2 }), 'Lowers the logit of every token that the reply holds already.'),
  frequency_penalty: supported(both, number({ min: -2, max: 2 }), 'Lowers the logit of a token by this much for each time that the reply holds it.'),
  logit_bias: supported(both, logitBias, 'Token id -> -100 to 100, added to its logit; -100 forbids the token, 100 forces it.'),
  n: supported(both, integer({ min: 1, max: 128 }), 'Replies for each prompt. A prompt of more than 16 tokens is read once and copied; not so with a `seed`, with `echo` and `logprobs`, or on a model whose cache cannot be cut.'),
  best_of: refused(completions, 'only `n` replies are made', (value, all) => value === 1 || value === all['n']),
  echo: supported(completions, boolean, 'Puts the prompt before the reply.'),
  suffix: refused(completions, 'filling in the middle is not offered', (value) => value === ''),
  logprobs: supported(both, () => {}, 'Completions: 0 to 5 most likely tokens at each position. Chat: true or false.'),
  top_logprobs: supported(chat, integer({ min: 0, max: 20 }), 'Most likely tokens at each position; needs `logprobs: true`.'),
  stream: supported(both, boolean, 'Sends the reply token by token as server-sent events.'),
  stream_options: supported(both, streamOptions, '`include_usage: true` adds a last chunk with the usage.'),
  response_format: supported(chat, object, '`text`, `json_object`, or `json_schema` (kept to by grammar).'),
  tools: supported(chat, array({ min: 0, max: 128 }), 'Functions that the model may call.'),
  tool_choice: supported(chat, () => {}, '`none`, `auto`, `required`, or one function; forced calls are kept to the schema by grammar.'),
  parallel_tool_calls: supported(chat, boolean, 'false: one call at most. A forced call is always one call.'),
  ignore_eos: supported(both, boolean, 'Never ends by itself; for measuring. Not part of the OpenAI API.'),

  user: inert(both, text({ lengthMax: 1000 })),
  metadata: inert(both, object),
  service_tier: inert(both, text({ lengthMax: 100 })),
  safety_identifier: inert(both, text({ lengthMax: 1000 })),
  prompt_cache_key: inert(both, text({ lengthMax: 1000 })),
  prompt_cache_retention: inert(both, text({ lengthMax: 100 })),

  store: refused(chat, 'replies are not stored', (value) => value === false),
  functions: refused(chat, 'it is deprecated: use `tools`', isEmptyArray),
  function_call: refused(chat, 'it is deprecated: use `tool_choice`', (value) => value === 'none'),
  modalities: refused(chat, 'only text is generated', (value) => isTextOnly(value)),
  audio: refused(chat, 'only text is generated'),
  prediction: refused(chat, 'predicted outputs are not used'),
  reasoning_effort: refused(chat, 'the model has no levels of reasoning', (value) => value === 'none'),
  verbosity: refused(chat, 'the model has no levels of verbosity', (value) => value === 'medium'),
  web_search_options: refused(chat, 'there is no web search'),
  moderation: refused(both, 'there is no moderation'),
} // prettier-ignore

/** Refuses what the table does not allow. `body` is any JSON object. */
export function checkParameters(route: Route, body: Readonly<Record<string, unknown>>): void {
  for (const [name, value] of Object.entries(body)) {
    const rule = Object.hasOwn(parameters, name) ? parameters[name] : undefined
    if (!rule?.routes.includes(route)) {
      throw fail('unsupported_parameter', {
        message: `\`${clip(name)}\` is not a parameter of this route. Leave it out.`,
        param: clip(name),
      })
    }
    if (value === null) continue
    if (rule.effect === 'refused' && rule.isHarmless(value, body)) continue
    if (rule.effect === 'refused') {
      throw fail('unsupported_parameter', {
        message: `\`${name}\` is not supported: ${rule.note}. Leave it out.`,
        param: name,
      })
    }
    rule.check(value, name, route)
  }
}

export function invalid(param: string, message: string) {
  return fail('invalid_request', { message: `\`${param}\` ${message}`, param })
}

/** A value as it may stand in a message. */
export function show(value: unknown): string {
  return clip(JSON.stringify(value) ?? String(value))
}

/** Refuses the fields of `object`, found at `path`, that are not in `known`; null counts as absent. */
export function refuseOthers(
  object: Readonly<Record<string, unknown>>,
  path: string,
  known: readonly string[],
): void {
  for (const [field, value] of Object.entries(object)) {
    if (known.includes(field) || value === null) continue
    const place = `${path}.${clip(field)}`
    throw fail('unsupported_parameter', {
      message: `\`${place}\` is not supported. Leave it out.`,
      param: place,
    })
  }
}

function clip(text: string): string {
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}

function supported(routes: readonly Route[], check: Rule['check'], note: string): Rule {
  return { routes, effect: 'supported', check, isHarmless: () => true, note }
}
function inert(routes: readonly Route[], check: Rule['check']): Rule {
  return {
    routes,
    effect: 'inert',
    check,
    isHarmless: () => true,
    note: 'Accepted; it has no effect on the reply.',
  }
}
function refused(routes: readonly Route[], note: string, isHarmless: Harmless = () => false): Rule {
  return { routes, effect: 'refused', check: () => {}, isHarmless, note }
}

/** In completions 0 reads the prompt only, for its log probabilities; chat has none of the prompt. */
function tokensMax(value: unknown, name: string, route: Route): void {
  integer({ min: route === 'chat' ? 1 : 0, max: 10_000_000 })(value, name)
}

export function integer(range: { min: number; max: number }): Check {
  return (value, name) => {
    if (Number.isSafeInteger(value) && (value as number) >= range.min && (value as number) <= range.max)
      return
    throw invalid(name, `is ${show(value)}; it must be a whole number from ${range.min} to ${range.max}.`)
  }
}
function number(range: { min: number; max: number }): Check {
  return (value, name) => {
    if (typeof value === 'number' && value >= range.min && value <= range.max) return
    throw invalid(name, `is ${show(value)}; it must be a number from ${range.min} to ${range.max}.`)
  }
}
export function boolean(value: unknown, name: string): void {
  if (typeof value !== 'boolean') throw invalid(name, `is ${show(value)}; it must be true or false.`)
}
function text(range: { lengthMax: number }): Check {
  return (value, name) => {
    if (typeof value === 'string' && value.length > 0 && value.length <= range.lengthMax) return
    throw invalid(name, `is ${show(value)}; it must be a text of 1 to ${range.lengthMax} characters.`)
  }
}
function array(range: { min: number; max: number }): Check {
  return (value, name) => {
    if (Array.isArray(value) && value.length >= range.min && value.length <= range.max) return
    throw invalid(name, `must be an array of ${range.min} to ${range.max} items.`)
  }
}
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
function object(value: unknown, name: string): void {
  if (!isObject(value)) throw invalid(name, `is ${show(value)}; it must be an object.`)
}

export const stopsMax = 16
export const stopLengthMax = 1000
function stop(value: unknown, name: string): void {
  const stops: unknown[] = Array.isArray(value) ? value : [value]
  const right = (item: unknown) => typeof item === 'string' && item.length > 0 && item.length <= stopLengthMax
  if (stops.length <= stopsMax && stops.every(right)) return
  throw invalid(
    name,
    `is ${show(value)}; it must be a text of 1 to ${stopLengthMax} characters or up to ${stopsMax} of them.`,
  )
}

const logitBiasesMax = 1024
function logitBias(value: unknown, name: string): void {
  object(value, name)
  const entries = Object.entries(value as object) as [string, unknown][]
  if (entries.length > logitBiasesMax) throw invalid(name, `has more than ${logitBiasesMax} entries.`)
  for (const [token, bias] of entries) {
    if (!/^\d{1,9}$/.test(token)) throw invalid(name, `has the key ${show(token)}; it must be a token id.`)
    number({ min: -100, max: 100 })(bias, `${name}.${token}`)
  }
}

function streamOptions(value: unknown, name: string): void {
  object(value, name)
  for (const [key, option] of Object.entries(value as object) as [string, unknown][]) {
    // Obfuscation pads the chunks of a stream; without it the chunks say the same.
    if (key !== 'include_usage' && !(key === 'include_obfuscation' && option === false)) {
      throw fail('unsupported_parameter', {
        message: `\`${name}.${clip(key)}\` is not supported. Leave it out.`,
        param: `${name}.${clip(key)}`,
      })
    }
    if (option !== null) boolean(option, `${name}.${key}`)
  }
}

function isEmptyArray(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0
}
function isTextOnly(value: unknown): boolean {
  return Array.isArray(value) && value.length === 1 && value[0] === 'text'
}
