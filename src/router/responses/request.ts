import { Compile } from 'typebox/compile'
import type { Fields } from '../calls/body.ts'
import { describeProblem, readServiceTier, type ServiceTier } from '../calls/completion-call.ts'
import { parseInput, type Item } from './items.ts'
import { invalid, isObject, refuseOthers, show, unsupported } from './refusal.ts'
import { ResponseBody } from './schema.ts'
import { parseToolChoice, parseTools, type FunctionTool, type ToolChoice } from './tools.ts'

/** A request for a response, checked: everything in it can be honoured. */
export type ResponsesRequest = {
  model: string
  input: readonly Item[]
  instructions: string | null
  previousResponseId: string | null
  stream: boolean
  store: boolean
  background: boolean
  maxOutputTokens: number | null
  maxToolCalls: number | null
  temperature: number | null
  topP: number | null
  topLogprobs: number
  /** Log probabilities are wanted with the text. */
  hasLogprobs: boolean
  tools: readonly FunctionTool[]
  toolChoice: ToolChoice
  parallelToolCalls: boolean | null
  format: TextFormat
  effort: string | null
  metadata: Readonly<Record<string, string>>
  user: string | null
  promptCacheKey: string | null
  safetyIdentifier: string | null
  /** Sampling parameters beyond OpenAI's that instances know: they go along as they are. */
  passedOn: Fields
  /** Null leaves it to the tenant. */
  serviceTier: ServiceTier | null
}

export type TextFormat =
  | { type: 'text' }
  | { type: 'json_object' }
  | { type: 'json_schema'; name: string; schema: Fields; strict: boolean | null; description?: string }

const checker = Compile(ResponseBody)

/** What model servers understand beside OpenAI's parameters. One that an instance does not know is its to refuse. */
const passedOn = [
  ...['seed', 'stop', 'frequency_penalty', 'presence_penalty', 'logit_bias', 'top_k', 'min_p', 'typical_p'],
  ...['repetition_penalty', 'repeat_penalty', 'min_tokens', 'ignore_eos', 'chat_template_kwargs'],
]

/** Known names that can't be honoured, and the way out. */
const refused: Readonly<Record<string, string>> = {
  prompt: 'prompt templates are not kept here; send `instructions` and `input`',
  conversation: 'conversations are not kept as such; go on from a response by `previous_response_id`',
  context_management: 'nothing is taken out of a conversation',
  moderation: 'there is no moderation',
  access_programs: 'there are none here',
  image: 'images are not compressed',
  prompt_cache_options: 'instances manage their caches themselves',
  messages: 'this route takes `input`',
  max_tokens: 'this route takes `max_output_tokens`',
  max_completion_tokens: 'this route takes `max_output_tokens`',
  response_format: 'this route takes `text.format`',
  reasoning_effort: 'this route takes `reasoning.effort`',
  verbosity: 'the models have no levels of verbosity',
  functions: 'this route takes `tools`',
  function_call: 'this route takes `tool_choice`',
  logprobs: 'this route takes `include: ["message.output_text.logprobs"]`',
  n: 'a response is one answer',
}

/** Checks the body of `POST /v1/responses`. Throws an error that names the field at fault. */
export function parseResponsesBody(body: Fields): ResponsesRequest {
  const isWhole: boolean = checker.Check(body)
  if (!isWhole) throw describeProblem(checker.Errors(body), body)
  refuseFields(body)
  // Of the right type, or absent: the schema has seen to that.
  const text = (name: string) => (body[name] ?? null) as string | null
  const number = (name: string) => (body[name] ?? null) as number | null
  const fields = (name: string) => (body[name] ?? {}) as Fields
  const list = (name: string) => (body[name] ?? []) as unknown[]
  const tools = parseTools(list('tools'))
  const request: ResponsesRequest = {
    model: body['model'] as string,
    input: parseInput(body['input'] as string | unknown[]),
    instructions: text('instructions'),
    previousResponseId: text('previous_response_id'),
    stream: body['stream'] === true,
    store: body['store'] !== false,
    background: body['background'] === true,
    maxOutputTokens: number('max_output_tokens'),
    maxToolCalls: number('max_tool_calls'),
    temperature: number('temperature'),
    topP: number('top_p'),
    topLogprobs: number('top_logprobs') ?? 0,
    hasLogprobs: readInclude(list('include')) || (number('top_logprobs') ?? 0) > 0,
    tools,
    toolChoice: parseToolChoice(body['tool_choice'], tools),
    parallelToolCalls: (body['parallel_tool_calls'] ?? null) as boolean | null,
    format: readFormat(fields('text')),
    effort: readEffort(fields('reasoning')),
    metadata: readMetadata(fields('metadata')),
    user: text('user'),
    promptCacheKey: text('prompt_cache_key'),
    safetyIdentifier: text('safety_identifier'),
    serviceTier: readServiceTier(body['service_tier']),
    passedOn: Object.fromEntries(
      passedOn.filter((name) => (body[name] ?? null) !== null).map((name) => [name, body[name]]),
    ),
  }
  if (request.input.length === 0 && request.previousResponseId === null) {
    throw invalid('input', 'must hold at least one item where there is no `previous_response_id`')
  }
  if (request.background && !request.store) {
    throw invalid('store', 'must not be false where `background` is true: somebody has to keep the response')
  }
  return request
}

function refuseFields(body: Fields): void {
  const known = ResponseBody.properties
  for (const [name, value] of Object.entries(body)) {
    if (value === null || Object.hasOwn(known, name) || passedOn.includes(name)) continue
    const why = Object.hasOwn(refused, name) ? refused[name] : undefined
    throw unsupported(name.slice(0, 100), why ?? 'there is no such field here')
  }
  refuseValue(body, 'truncation', ['disabled'], 'a conversation that is too long is refused, never cut')
  refuseValue(body, 'prompt_cache_retention', ['in_memory'], 'instances manage their caches themselves')
  const options = body['stream_options'] ?? null
  if (!isObject(options)) return
  if (options['include_obfuscation'] === true) {
    throw unsupported('stream_options.include_obfuscation', 'events are not padded')
  }
  refuseOthers(options, 'stream_options', ['include_obfuscation'])
}

function refuseValue(body: Fields, name: string, allowed: readonly string[], why: string): void {
  const value = body[name] ?? null
  if (value === null || allowed.includes(value as string)) return
  throw unsupported(name, `${why}; ${show(value)} can't be honoured`)
}

/** Whether log probabilities are asked for. */
function readInclude(include: readonly unknown[]): boolean {
  for (const [index, name] of include.entries()) {
    // The stored input holds the URLs of its images anyway.
    if (name === 'message.output_text.logprobs' || name === 'message.input_image.image_url') continue
    throw unsupported(`include[${index}]`, `${show(name)} belongs to something that is not offered here`)
  }
  return include.includes('message.output_text.logprobs')
}

function readFormat(text: Fields): TextFormat {
  refuseOthers(text, 'text', ['format', 'verbosity'])
  if ((text['verbosity'] ?? 'medium') !== 'medium') {
    throw unsupported('text.verbosity', 'the models have no levels of verbosity')
  }
  const format = text['format'] ?? { type: 'text' }
  if (!isObject(format)) throw invalid('text.format', `must be an object; it is ${show(format)}`)
  const { type, name, schema, strict, description } = format
  if (type === 'text' || type === 'json_object') {
    refuseOthers(format, 'text.format', ['type'])
    return { type }
  }
  if (type !== 'json_schema') {
    throw invalid('text.format.type', `must be text, json_object or json_schema; it is ${show(type)}`)
  }
  refuseOthers(format, 'text.format', ['type', 'name', 'schema', 'strict', 'description'])
  if (typeof name !== 'string' || !/^[\w-]{1,64}$/.test(name)) {
    throw invalid('text.format.name', `must be 1 to 64 letters, digits, \`_\` or \`-\`; it is ${show(name)}`)
  }
  if (!isObject(schema)) throw invalid('text.format.schema', `must be an object; it is ${show(schema)}`)
  if ((strict ?? null) !== null && typeof strict !== 'boolean') {
    throw invalid('text.format.strict', `must be a boolean; it is ${show(strict)}`)
  }
  if ((description ?? null) !== null && typeof description !== 'string') {
    throw invalid('text.format.description', `must be a string; it is ${show(description)}`)
  }
  const strictly = (strict ?? null) as boolean | null
  return { type, name, schema, strict: strictly, ...(typeof description === 'string' ? { description } : {}) }
}

function readEffort(reasoning: Fields): string | null {
  for (const name of ['summary', 'generate_summary']) {
    if ((reasoning[name] ?? null) === null) continue
    throw unsupported(`reasoning.${name}`, 'thoughts are given as they are, where an instance shows them')
  }
  refuseOthers(reasoning, 'reasoning', ['effort'])
  const effort = reasoning['effort'] ?? null
  if (effort === null || typeof effort === 'string') return effort
  throw invalid('reasoning.effort', `must be a string; it is ${show(effort)}`)
}

/** OpenAI's own limits. */
function readMetadata(metadata: Fields): Readonly<Record<string, string>> {
  const pairs = Object.entries(metadata)
  if (pairs.length > 16) throw invalid('metadata', `must hold at most 16 pairs; it holds ${pairs.length}`)
  for (const [key, value] of pairs) {
    if (key.length < 1 || key.length > 64) throw invalid('metadata', 'must have keys of 1 to 64 characters')
    if (typeof value === 'string' && value.length <= 512) continue
    throw invalid(`metadata.${key}`, `must be a string of at most 512 characters; it is ${show(value)}`)
  }
  return metadata as Record<string, string>
}
