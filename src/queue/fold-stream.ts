import { fail } from '../core/errors.ts'
import { readEventData, splitEvents } from '../core/sse.ts'

type Fields = Record<string, unknown>

/** A task of many choices is not read as a stream of more than these. */
const choicesMax = 128

/**
 * Fields for which the stream of an answer holds what the whole answer would, no more and no less. A body with any
 * other field is not streamed: nobody knows what an instance adds to its answer for it, and where.
 */
const foldableFields = new Set([
  'model', 'messages', 'prompt', 'max_tokens', 'max_completion_tokens', 'min_tokens', 'temperature', 'top_p', 'top_k',
  'min_p', 'n', 'seed', 'stop', 'user', 'frequency_penalty', 'presence_penalty', 'repetition_penalty', 'repeat_penalty',
  'logit_bias', 'logprobs', 'top_logprobs', 'response_format', 'tools', 'tool_choice', 'parallel_tool_calls', 'stream',
  'stream_options', 'metadata', 'store', 'reasoning_effort', 'ignore_eos', 'chat_template_kwargs', 'cache_prompt',
]) // prettier-ignore

/** Whether the answer may be asked for as a stream and put together again. */
export function isFoldable(path: string, body: Readonly<Fields>): boolean {
  if (path !== '/chat/completions' && path !== '/completions') return false
  if (!Object.keys(body).every((field) => foldableFields.has(field))) return false
  // Positions in a text: a piece of a stream counts them from its own start with some instances.
  if (path === '/completions' && typeof body['logprobs'] === 'number') return false
  // Several prompts are numbered through in one list; which instances do that in a stream is not known.
  return !(
    Array.isArray(body['prompt']) &&
    body['prompt'].length !== 1 &&
    typeof body['prompt'][0] !== 'number'
  )
}

/** Puts the events of a stream of completions together to the answer that a call without `stream` gets. */
export class StreamFold {
  readonly #isChat: boolean
  readonly #choices = new Map<number, Fields>()
  #envelope: Fields | null = null
  #usage: unknown = null
  /** Pieces of text that came: about one token each. */
  pieces = 0

  constructor(path: string) {
    this.#isChat = path === '/chat/completions'
  }

  /** Whole events. Throws upstream_failed for an error among them, upstream_invalid for what can't be read. */
  push(events: Buffer): void {
    for (const event of splitEvents(events)) {
      const data = readEventData(event)
      if (data === null || data === '[DONE]') continue
      this.#take(parse(data))
    }
  }

  /** The whole answer, after the end of the stream. */
  finish(): Fields {
    if (!this.#envelope || this.#choices.size === 0) {
      throw fail('upstream_invalid', { message: 'The model instance answered a stream without a choice.' })
    }
    const object = this.#isChat ? 'chat.completion' : 'text_completion'
    const choices = [...this.#choices.values()].sort((a, b) => Number(a['index']) - Number(b['index']))
    const usage = this.#usage === null ? {} : { usage: this.#usage }
    return {
      ...this.#envelope,
      object,
      choices: choices.map((choice) => this.#finishChoice(choice)),
      ...usage,
    }
  }

  #take(chunk: Fields): void {
    if (chunk['error'] !== undefined && chunk['error'] !== null) {
      const { message } = chunk['error'] as { message?: unknown }
      throw fail('upstream_failed', {
        message: `The model instance broke off: ${String(message).slice(0, 300)}`,
      })
    }
    const { choices, usage, ...rest } = chunk
    if (typeof usage === 'object' && usage !== null) this.#usage = usage
    // The first chunk names everything; what later ones add (a fingerprint, timings) is taken when it comes.
    this.#envelope = { ...rest, ...without(rest, this.#envelope) }
    if (!Array.isArray(choices)) return
    for (const choice of choices as Fields[]) this.#takeChoice(choice)
  }

  #takeChoice({ delta, text, index: given, ...rest }: Fields): void {
    const index = typeof given === 'number' ? given : 0
    let choice = this.#choices.get(index)
    if (!choice) {
      if (this.#choices.size >= choicesMax) {
        throw fail('upstream_invalid', {
          message: 'The model instance answered more choices than anybody asks for.',
        })
      }
      choice = this.#isChat ? { index, message: {} } : { index, text: '' }
      this.#choices.set(index, choice)
    }
    if (this.#isChat) {
      if (accumulate(choice['message'] as Fields, (delta ?? {}) as Fields)) this.pieces += 1
    } else if (typeof text === 'string' && text !== '') {
      choice['text'] = (choice['text'] as string) + text
      this.pieces += 1
    }
    for (const [key, value] of Object.entries(rest)) {
      if (key === 'logprobs') addLogprobs(choice, value)
      else if (value !== null || !(key in choice)) choice[key] = value
    }
  }

  #finishChoice({ index, message, text, logprobs, finish_reason: reason, ...rest }: Fields): Fields {
    const tail = { logprobs: logprobs ?? null, finish_reason: reason ?? null, ...rest }
    if (!this.#isChat) return { index, text, ...tail }
    const { role, content, tool_calls: calls, ...more } = message as Fields
    const whole = {
      role: role ?? 'assistant',
      // Where there are calls and no text, the text is null and not empty.
      content: Array.isArray(calls) && calls.length > 0 ? content || null : (content ?? ''),
      ...more,
      ...(Array.isArray(calls) ? { tool_calls: calls.map((call) => dropIndex(call as Fields)) } : {}),
    }
    return { index, message: whole, ...tail }
  }
}

function parse(data: string): Fields {
  try {
    const value = JSON.parse(data) as unknown
    if (typeof value === 'object' && value !== null) return value as Fields
  } catch {
    // Told below.
  }
  throw fail('upstream_invalid', { message: 'The model instance answered an event that is not JSON.' })
}

const without = (rest: Fields, envelope: Fields | null): Fields =>
  Object.fromEntries(
    Object.entries(envelope ?? {}).filter(([key, value]) => value !== null || !(key in rest)),
  )

/** Adds a delta: texts grow, lists are matched by `index`, anything else is set. True when there was text in it. */
function accumulate(into: Fields, delta: Fields): boolean {
  let hasText = false
  for (const [key, value] of Object.entries(delta)) {
    const before = Object.hasOwn(into, key) ? into[key] : undefined
    if (value === null) {
      if (before === undefined) into[key] = null
    } else if (typeof value === 'string') {
      const isLabel = key === 'role' || key === 'type' || key === 'id'
      // A tool's name comes whole, and some instances repeat it with every piece of the arguments.
      const isRepeated = key === 'name' && before === value
      into[key] = typeof before === 'string' && !isLabel && !isRepeated ? before + value : value
      hasText ||= !isLabel && value !== ''
    } else if (Array.isArray(value)) {
      const list = Array.isArray(before) ? (before as unknown[]) : []
      into[key] = list
      for (const item of value as unknown[]) hasText = addItem(list, item) || hasText
    } else if (typeof value === 'object') {
      const inner = typeof before === 'object' && before !== null ? (before as Fields) : {}
      into[key] = inner
      hasText = accumulate(inner, value as Fields) || hasText
    } else into[key] = value
  }
  return hasText
}

function addItem(list: unknown[], item: unknown): boolean {
  const index = (item as Fields | null)?.['index']
  const known = list.find((other) => index !== undefined && (other as Fields)['index'] === index)
  if (known) return accumulate(known as Fields, item as Fields)
  if (typeof item !== 'object' || item === null) {
    list.push(item)
    return true
  }
  const copy: Fields = {}
  list.push(copy)
  return accumulate(copy, item as Fields)
}

function addLogprobs(choice: Fields, value: unknown): void {
  if (typeof value !== 'object' || value === null) {
    if (!('logprobs' in choice)) choice['logprobs'] = value ?? null
    return
  }
  const held = (choice['logprobs'] ??= {}) as Record<string, unknown>
  for (const [key, items] of Object.entries(value)) {
    const before = held[key]
    if (Array.isArray(items)) {
      const list = Array.isArray(before) ? (before as unknown[]) : []
      for (const item of items as unknown[]) list.push(item)
      held[key] = list
    } else if (before === undefined || items !== null) held[key] = items
  }
}

const dropIndex = ({ index: _index, ...call }: Fields): Fields => call
