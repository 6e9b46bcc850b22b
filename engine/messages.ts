import { fail } from '../src/core/errors.ts'
import { invalid, isObject, refuseOthers, show } from './parameters.ts'

/** A message as chat templates expect it. */
export type Message = {
  role: string
  content: string
  name?: string
  tool_call_id?: string
  reasoning_content?: string
  tool_calls?: { id: string; type: 'function'; function: { name: string; arguments: unknown } }[]
}

const roles = ['system', 'developer', 'user', 'assistant', 'tool']
const textFields = ['name', 'tool_call_id', 'reasoning_content'] as const

/** @throws invalid_request or unsupported_parameter that names the place in `messages`. */
export function parseMessages(value: unknown): Message[] {
  // The table of parameters has checked that this is an array of at least one item.
  const items = (value ?? null) as unknown[] | null
  if (items === null) throw invalid('messages', 'is missing; give an array of messages.')
  return items.map((item, i) => parseMessage(item, `messages[${i}]`))
}

function parseMessage(item: unknown, path: string): Message {
  if (!isObject(item)) throw invalid(path, `is ${show(item)}; it must be an object.`)
  const role = item['role']
  if (typeof role !== 'string' || !roles.includes(role)) {
    throw invalid(`${path}.role`, `is ${show(role)}; it must be one of ${roles.join(', ')}.`)
  }
  const calls = role === 'assistant' ? (item['tool_calls'] ?? null) : null
  const message: Message = {
    role,
    content: parseContent(item['content'] ?? null, `${path}.content`, calls !== null),
  }
  if (calls !== null) message.tool_calls = parseToolCalls(calls, `${path}.tool_calls`)
  for (const field of textFields) {
    const text = item[field] ?? null
    if (text === null) continue
    if (typeof text !== 'string') throw invalid(`${path}.${field}`, `is ${show(text)}; it must be a text.`)
    message[field] = text
  }
  if (role === 'tool' && message.tool_call_id === undefined) {
    throw invalid(`${path}.tool_call_id`, 'is missing; a tool message names the call it answers.')
  }
  for (const [field, other] of Object.entries(item)) {
    const isEmpty = other === null || (Array.isArray(other) && other.length === 0)
    if (field === 'content' || field === 'role' || isEmpty || Object.hasOwn(message, field)) continue
    throw fail('unsupported_parameter', {
      message: `\`${path}.${field.slice(0, 60)}\` is not supported. Leave it out.`,
      param: `${path}.${field.slice(0, 60)}`,
    })
  }
  return message
}

function parseContent(content: unknown, path: string, mayBeAbsent: boolean): string {
  if (typeof content === 'string') return content
  if (content === null && mayBeAbsent) return ''
  if (!Array.isArray(content)) {
    throw invalid(path, `is ${show(content)}; it must be a text or an array of text parts.`)
  }
  const texts = (content as unknown[]).map((part, i) => {
    const place = `${path}[${i}]`
    if (!isObject(part)) throw invalid(place, `is ${show(part)}; it must be an object.`)
    if (part['type'] !== 'text') {
      throw fail('unsupported_parameter', {
        message: `\`${place}.type\` is ${show(part['type'])}; this model reads text parts only.`,
        param: `${place}.type`,
      })
    }
    if (typeof part['text'] !== 'string') throw invalid(`${place}.text`, 'must be a text.')
    refuseOthers(part, place, ['type', 'text'])
    return part['text']
  })
  return texts.join('')
}

function parseToolCalls(calls: unknown, path: string): NonNullable<Message['tool_calls']> {
  if (!Array.isArray(calls)) throw invalid(path, 'must be an array.')
  return (calls as unknown[]).map((call, i) => {
    const place = `${path}[${i}]`
    const made = isObject(call) && isObject(call['function']) ? call['function'] : null
    if (made === null || typeof made['name'] !== 'string' || typeof made['arguments'] !== 'string') {
      throw invalid(place, 'must have a function with the texts `name` and `arguments`.')
    }
    const { id, type } = call as Record<string, unknown>
    if ((type ?? 'function') !== 'function') {
      throw fail('unsupported_parameter', {
        message: `\`${place}.type\` is ${show(type)}; only "function" is supported.`,
        param: `${place}.type`,
      })
    }
    // What clients add to a call that they have read off a stream, or parsed, says nothing more.
    refuseOthers(call as Record<string, unknown>, place, ['id', 'type', 'function', 'index'])
    refuseOthers(made, `${place}.function`, ['name', 'arguments', 'parsed_arguments'])
    return {
      id: typeof id === 'string' ? id : '',
      type: 'function',
      // Templates write arguments as JSON themselves; what is not JSON stays a text.
      function: { name: made['name'], arguments: parseJson(made['arguments']) },
    }
  })
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return text
  }
}
