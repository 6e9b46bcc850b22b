import type { ServerResponse } from 'node:http'
import type { LlamaGrammar } from 'node-llama-cpp'
import { fail } from '../src/core/errors.ts'
import { type Body, type Call, parseCall } from './call.ts'
import { StreamedChat, WholeChat } from './chat-reply.ts'
import type { Engine } from './engine.ts'
import { assertRoom, generate } from './generate.ts'
import { parseMessages } from './messages.ts'
import { boolean, integer, invalid, isObject, refuseOthers, show } from './parameters.ts'
import type { Prompt } from './prompt.ts'
import { writeGrammar } from './schema.ts'
import { writeOfferGrammar, writeToolGrammar } from './tool-grammar.ts'
import { parseTools, type ToolChoice } from './tools.ts'

export type ChatCall = Call & {
  prompts: Prompt[]
  tools: ToolChoice
  callsMax: number
  /** Most likely tokens to report; null for no log probabilities at all. */
  topLogprobs: number | null
}

/** POST /v1/chat/completions. Resolves when the reply is complete; rejects with what goes wrong before or during it. */
export async function chat(
  body: Body,
  response: ServerResponse,
  engine: Engine,
  signal: AbortSignal,
): Promise<void> {
  const call = parseChat(body, engine)
  const grammar = await chooseGrammar(body, call, engine)
  const reply = call.stream
    ? new StreamedChat(call, response, engine.loaded)
    : new WholeChat(call, response, engine.loaded)
  const plan = {
    call,
    tokensMax: call.tokensMax ?? engine.loaded.contextTokens,
    grammar,
    topLogprobs: call.topLogprobs,
    promptLogprobs: false,
  }
  return generate(plan, reply, engine, signal)
}

function parseChat(body: Body, engine: Engine): ChatCall {
  const call = parseCall('chat', body, engine.loaded)
  const messages = parseMessages(body['messages'])
  const tools = parseTools(body['tools'], body['tool_choice'])
  const tokens = engine.template.render(messages, tools.tools)
  assertRoom(call.n, engine)
  return {
    ...call,
    stops: [...call.stops, ...engine.template.stops],
    prompts: [{ tokens, text: '' }],
    tools,
    callsMax: body['parallel_tool_calls'] === false ? 1 : Number.POSITIVE_INFINITY,
    topLogprobs: readTopLogprobs(body),
  }
}

function readTopLogprobs(body: Body): number | null {
  const wanted = body['logprobs'] ?? false
  boolean(wanted, 'logprobs')
  const top = (body['top_logprobs'] ?? null) as number | null
  if (top === null) return wanted ? 0 : null
  integer({ min: 0, max: 20 })(top, 'top_logprobs')
  if (!wanted) throw invalid('top_logprobs', 'is only allowed with `logprobs: true`.')
  return top
}

async function chooseGrammar(body: Body, call: ChatCall, engine: Engine): Promise<LlamaGrammar | null> {
  const format = readFormat(body['response_format'])
  const { tools, forced } = call.tools
  const isStrict = tools.some((tool) => tool.strict)
  if (format === null && forced.length === 0 && !isStrict) return null
  if (call.ignoreEnd) throw invalid('ignore_eos', 'cannot go with a grammar: its end must be allowed.')
  if (format !== null && tools.length > 0) {
    throw fail('unsupported_parameter', {
      message:
        '`response_format` cannot go with `tools` that may be called: a reply is either a call or of that format. ' +
        'Leave one of them out, or set `tool_choice` to "none".',
      param: 'response_format',
    })
  }
  if (forced.length > 0) return engine.grammars.compile(writeToolGrammar(forced), 'tools')
  if (isStrict) return engine.grammars.compile(writeOfferGrammar(tools), 'tools')
  return engine.grammars.compile(writeGrammar(format, 'response_format'), 'response_format')
}

/** The schema that the reply must follow; null for free text. */
function readFormat(value: unknown): unknown {
  const format = value ?? null
  if (format === null) return null
  const type = isObject(format) ? format['type'] : undefined
  const known = type === 'json_schema' ? ['type', 'json_schema'] : ['type']
  if (isObject(format)) refuseOthers(format, 'response_format', known)
  if (type === 'text') return null
  if (type === 'json_object') return { type: 'object', additionalProperties: true }
  const named = isObject(format) && type === 'json_schema' ? format['json_schema'] : null
  // `strict` or not, a grammar keeps to the schema; name and description are for the reader.
  if (isObject(named)) {
    refuseOthers(named, 'response_format.json_schema', ['name', 'description', 'schema', 'strict'])
  }
  if (isObject(named)) return named['schema'] ?? { type: 'object', additionalProperties: true }
  throw invalid(
    'response_format',
    `is ${show(format)}; its type must be "text", "json_object", or "json_schema" with a json_schema.`,
  )
}
