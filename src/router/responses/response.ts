import { fail, type ApiError } from '../../core/errors.ts'
import type { Fields } from '../calls/body.ts'
import { readTokenCount } from '../calls/token-count.ts'
import type { FunctionCallItem, Item, ItemStatus, MessageItem, Part, ReasoningItem } from './items.ts'
import { isObject } from './refusal.ts'
import type { ResponsesRequest } from './request.ts'

type ResponseStatus = 'queued' | 'in_progress' | 'completed' | 'incomplete' | 'failed' | 'cancelled'

export type OutputItem = Required<MessageItem> | Required<FunctionCallItem> | Required<ReasoningItem>

export type ResponseUsage = {
  input_tokens: number
  input_tokens_details: { cached_tokens: number; cache_write_tokens: number }
  output_tokens: number
  output_tokens_details: { reasoning_tokens: number }
  total_tokens: number
}

type ResponseError = { code: string; message: string }

/** How far a response is. */
export type Progress = {
  status: ResponseStatus
  output?: readonly OutputItem[]
  usage?: ResponseUsage | null
  error?: ResponseError | null
  incomplete?: IncompleteReason | null
  completedAtMs?: number
}

type IncompleteReason = 'max_output_tokens' | 'content_filter'

export type ResponseIdentity = { id: string; createdAtMs: number }

/** OpenAI's response object, as far as it can be said here; the settings are those of the request. */
export type ResponseObject = ReturnType<typeof describeResponse>

export function describeResponse(request: ResponsesRequest, identity: ResponseIdentity, progress: Progress) {
  const { status, output = [], usage = null, error = null, incomplete = null, completedAtMs } = progress
  return {
    id: identity.id,
    object: 'response' as const,
    created_at: Math.floor(identity.createdAtMs / 1000),
    completed_at: completedAtMs === undefined ? null : Math.floor(completedAtMs / 1000),
    status,
    background: request.background,
    error,
    incomplete_details: incomplete === null ? null : { reason: incomplete },
    instructions: request.instructions,
    max_output_tokens: request.maxOutputTokens,
    max_tool_calls: request.maxToolCalls,
    metadata: request.metadata,
    model: request.model,
    output,
    parallel_tool_calls: request.parallelToolCalls ?? true,
    previous_response_id: request.previousResponseId,
    prompt_cache_key: request.promptCacheKey,
    reasoning: { effort: request.effort, summary: null },
    safety_identifier: request.safetyIdentifier,
    service_tier: request.serviceTier ?? ('default' as const),
    store: request.store,
    temperature: request.temperature,
    text: { format: request.format, verbosity: 'medium' as const },
    tool_choice: request.toolChoice,
    tools: request.tools,
    top_logprobs: request.topLogprobs,
    top_p: request.topP,
    truncation: 'disabled' as const,
    usage,
    user: request.user,
  }
}

/** A whole chat completion as a response. Throws upstream_invalid when it is none. */
export function toResponse(
  request: ResponsesRequest,
  identity: ResponseIdentity,
  { chat, completedAtMs }: { chat: Fields; completedAtMs: number },
): ResponseObject {
  const choice: unknown = Array.isArray(chat['choices']) ? chat['choices'][0] : undefined
  if (!isObject(choice) || !isObject(choice['message'])) throw noCompletion()
  const { message } = choice
  const output: OutputItem[] = []
  const ids = new OutputIds(identity.id)
  const thought = message['reasoning_content'] ?? message['reasoning']
  if (isText(thought)) output.push(makeReasoning(ids.next('rs'), thought))
  const calls = Array.isArray(message['tool_calls']) ? (message['tool_calls'] as unknown[]) : []
  const content: Part[] = []
  const { content: text, refusal } = message
  const hasNothing = !isText(text) && !isText(refusal) && output.length === 0 && calls.length === 0
  if (isText(text) || hasNothing) {
    content.push(makeTextPart(isText(text) ? text : '', readLogprobs(choice), request.hasLogprobs))
  }
  if (isText(refusal)) content.push({ type: 'refusal', refusal })
  if (content.length > 0) output.push(makeMessage(ids.next('msg'), content))
  for (const call of calls) {
    const made = isObject(call) && isObject(call['function']) ? call['function'] : {}
    const callId = isObject(call) ? call['id'] : undefined
    output.push({
      ...ids.nextCall(callId),
      type: 'function_call',
      status: 'completed',
      name: isText(made['name']) ? made['name'] : '',
      arguments: isText(made['arguments']) ? made['arguments'] : '',
    })
  }
  const { status, incomplete } = readEnd(choice['finish_reason'])
  const usage = toUsage(chat['usage'])
  return describeResponse(request, identity, {
    ...{ status, incomplete, usage, completedAtMs },
    output: markEnd(output, status === 'incomplete' ? 'incomplete' : 'completed'),
  })
}

export const noCompletion = (): ApiError =>
  fail('upstream_invalid', { message: 'The model instance answered something that is no chat completion.' })

/** What the reason of a chat completion's end makes of the response. */
export function readEnd(reason: unknown): {
  status: 'completed' | 'incomplete'
  incomplete: IncompleteReason | null
} {
  if (reason === 'length') return { status: 'incomplete', incomplete: 'max_output_tokens' }
  if (reason === 'content_filter') return { status: 'incomplete', incomplete: 'content_filter' }
  return { status: 'completed', incomplete: null }
}

/** Only what the model was at when it stopped is not whole. */
function markEnd(output: readonly OutputItem[], status: ItemStatus): OutputItem[] {
  return output.map((item, index) => (index === output.length - 1 ? { ...item, status } : item))
}

/** Ids of output items follow from the response's own, so that they are the same however often it is translated. */
export class OutputIds {
  readonly #suffix: string
  readonly #calls = new Set<string>()
  #count = 0

  constructor(responseId: string) {
    this.#suffix = responseId.replace(/^resp_/, '')
  }

  next(prefix: 'rs' | 'msg'): string {
    this.#count += 1
    return `${prefix}_${this.#suffix}_${this.#count}`
  }

  /** A call keeps the instance's own id where that is one: some instances leave it empty, or give it twice. */
  nextCall(given: unknown): { id: string; call_id: string } {
    this.#count += 1
    const name = `${this.#suffix}_${this.#count}`
    const callId = isText(given) && !this.#calls.has(given) ? given : `call_${name}`
    this.#calls.add(callId)
    return { id: `fc_${name}`, call_id: callId }
  }
}

export const isText = (value: unknown): value is string => typeof value === 'string' && value.length > 0

export const makeReasoning = (id: string, text: string): Required<ReasoningItem> => ({
  id,
  type: 'reasoning',
  status: 'completed',
  summary: [],
  content: [{ type: 'reasoning_text', text }],
})

export const makeMessage = (id: string, content: readonly Part[]): Required<MessageItem> => ({
  id,
  type: 'message',
  status: 'completed',
  role: 'assistant',
  content,
})

export const makeTextPart = (text: string, logprobs: readonly unknown[], isWanted: boolean): Part => ({
  type: 'output_text',
  text,
  annotations: [],
  ...(isWanted ? { logprobs } : {}),
})

/** The log probabilities in a choice of chat, whole or in a chunk: the shape is the same as here. */
export function readLogprobs(choice: Fields): unknown[] {
  const logprobs = choice['logprobs']
  return isObject(logprobs) && Array.isArray(logprobs['content']) ? (logprobs['content'] as unknown[]) : []
}

export function toUsage(usage: unknown): ResponseUsage | null {
  if (!isObject(usage)) return null
  const input = readCount(usage['prompt_tokens'])
  const output = readCount(usage['completion_tokens'])
  const inputDetails = isObject(usage['prompt_tokens_details']) ? usage['prompt_tokens_details'] : {}
  const outputDetails = isObject(usage['completion_tokens_details']) ? usage['completion_tokens_details'] : {}
  return {
    input_tokens: input,
    input_tokens_details: { cached_tokens: readCount(inputDetails['cached_tokens']), cache_write_tokens: 0 },
    output_tokens: output,
    output_tokens_details: { reasoning_tokens: readCount(outputDetails['reasoning_tokens']) },
    total_tokens: input + output,
  }
}

const readCount = (value: unknown): number => readTokenCount(value) ?? 0

/** An error of the table in the few codes that responses have. */
export function toResponseError(error: { code: string; message: string }): ResponseError {
  const code = { rate_limited: 'rate_limit_exceeded', context_length_exceeded: 'invalid_prompt', invalid_request: 'invalid_prompt' }[error.code] // prettier-ignore
  return { code: code ?? 'server_error', message: error.message }
}

/** Gives every item without an id of its own, or with one that is there already, a new one. */
export function identifyItems(responseId: string, items: readonly Item[], taken: readonly Item[]): Item[] {
  const ids = new Set(taken.map(({ id }) => id))
  const prefixes = { message: 'msg', function_call: 'fc', function_call_output: 'fco', reasoning: 'rs' }
  const suffix = responseId.replace(/^resp_/, '')
  return items.map((item, index) => {
    const isOwn = item.id !== undefined && !ids.has(item.id)
    const id = isOwn ? (item.id as string) : `${prefixes[item.type]}_${suffix}_in${index}`
    ids.add(id)
    return { ...item, id }
  })
}

/** A response that was whole, and then could not be kept. */
export const failResponse = (
  response: ResponseObject,
  error: { code: string; message: string },
): ResponseObject => ({ ...response, status: 'failed', completed_at: null, error: toResponseError(error) })
