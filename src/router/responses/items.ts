import { invalid, isObject, readString, refuseOthers, show, unsupported } from './refusal.ts'
import type { Fields } from '../calls/body.ts'

/** What a conversation is made of, as OpenAI's Responses API has it. Checked, and with an id once it is kept. */
export type Item = MessageItem | FunctionCallItem | FunctionOutputItem | ReasoningItem

export type ItemStatus = 'in_progress' | 'completed' | 'incomplete'

export type MessageItem = {
  id?: string
  type: 'message'
  role: 'user' | 'assistant' | 'system' | 'developer'
  status?: ItemStatus
  content: readonly Part[]
}

export type FunctionCallItem = {
  id?: string
  type: 'function_call'
  status?: ItemStatus
  call_id: string
  name: string
  arguments: string
}

type FunctionOutputItem = {
  id?: string
  type: 'function_call_output'
  status?: ItemStatus
  call_id: string
  output: string | readonly Part[]
}

export type ReasoningItem = {
  id?: string
  type: 'reasoning'
  status?: ItemStatus
  summary: readonly Fields[]
  content?: readonly Fields[]
}

export type Part =
  | { type: 'input_text'; text: string }
  | { type: 'input_image'; image_url: string; detail: string }
  | { type: 'input_file'; filename?: string; file_data: string }
  | { type: 'output_text'; text: string; annotations: readonly unknown[]; logprobs?: readonly unknown[] }
  | { type: 'refusal'; refusal: string }

const roles = ['user', 'assistant', 'system', 'developer']
const statuses = ['in_progress', 'completed', 'incomplete']

/** The input of a request as items. Throws an error that names the place, such as `input[2].content[0].type`. */
export function parseInput(input: string | readonly unknown[]): Item[] {
  if (typeof input !== 'string') return input.map((item, index) => parseItem(item, `input[${index}]`))
  return [
    { type: 'message', role: 'user', status: 'completed', content: [{ type: 'input_text', text: input }] },
  ]
}

function parseItem(item: unknown, path: string): Item {
  if (!isObject(item)) throw invalid(path, `must be an object; it is ${show(item)}`)
  const type = item['type'] ?? (item['role'] === undefined ? null : 'message')
  switch (type) {
    case 'message':
      return parseMessage(item, path)
    case 'function_call':
      return parseFunctionCall(item, path)
    case 'function_call_output':
      return parseFunctionOutput(item, path)
    case 'reasoning':
      return parseReasoning(item, path)
    case 'item_reference':
      throw unsupported(
        `${path}.type`,
        'items are not found by their id; send them, or use `previous_response_id`',
      )
    case null:
      throw invalid(`${path}.type`, 'is missing')
    default:
      throw unsupported(`${path}.type`, `${show(type)} belongs to a tool that is not offered here`)
  }
}

function parseMessage(item: Fields, path: string): MessageItem {
  refuseOthers(item, path, ['id', 'type', 'role', 'content', 'status'])
  const { role, content } = item
  if (typeof role !== 'string' || !roles.includes(role)) {
    throw invalid(`${path}.role`, `must be one of ${roles.join(', ')}; it is ${show(role)}`)
  }
  const isOurs = role === 'assistant'
  const parts =
    typeof content === 'string'
      ? [toTextPart(content, isOurs)]
      : parseParts(content, `${path}.content`, isOurs)
  return { ...readIdentity(item, path), type: 'message', role: role as MessageItem['role'], content: parts }
}

function parseFunctionCall(item: Fields, path: string): FunctionCallItem {
  refuseOthers(item, path, ['id', 'type', 'status', 'call_id', 'name', 'arguments', 'parsed_arguments'])
  return {
    ...readIdentity(item, path),
    type: 'function_call',
    call_id: readString(item, 'call_id', path),
    name: readString(item, 'name', path),
    arguments: readString(item, 'arguments', path),
  }
}

function parseFunctionOutput(item: Fields, path: string): FunctionOutputItem {
  refuseOthers(item, path, ['id', 'type', 'status', 'call_id', 'output'])
  const call_id = readString(item, 'call_id', path)
  const { output } = item
  const identity = readIdentity(item, path)
  if (typeof output === 'string') return { ...identity, type: 'function_call_output', call_id, output }
  const parts = parseParts(output, `${path}.output`, false)
  for (const [index, { type }] of parts.entries()) {
    // A message of role `tool` holds text and nothing else.
    if (type !== 'input_text')
      throw unsupported(`${path}.output[${index}].type`, 'the output of a function is text')
  }
  return { ...identity, type: 'function_call_output', call_id, output: parts }
}

function parseReasoning(item: Fields, path: string): ReasoningItem {
  refuseOthers(item, path, ['id', 'type', 'status', 'summary', 'content'])
  const readList = (name: string): Fields[] => {
    const value = item[name] ?? []
    if (Array.isArray(value) && value.every(isObject)) return value
    throw invalid(`${path}.${name}`, `must be an array of objects; it is ${show(value)}`)
  }
  return {
    ...readIdentity(item, path),
    type: 'reasoning',
    summary: readList('summary'),
    content: readList('content'),
  }
}

function readIdentity(item: Fields, path: string): { id?: string; status: ItemStatus } {
  const status = item['status'] ?? 'completed'
  if (typeof status !== 'string' || !statuses.includes(status)) {
    throw invalid(`${path}.status`, `must be one of ${statuses.join(', ')}; it is ${show(status)}`)
  }
  if ((item['id'] ?? null) === null) return { status: status as ItemStatus }
  const id = readString(item, 'id', path)
  if (id.length < 1 || id.length > 200) throw invalid(`${path}.id`, 'must have 1 to 200 characters')
  return { id, status: status as ItemStatus }
}

function parseParts(content: unknown, path: string, isOurs: boolean): Part[] {
  if (!Array.isArray(content))
    throw invalid(path, `must be a string or an array of parts; it is ${show(content)}`)
  return (content as unknown[]).map((part, index) => {
    if (!isObject(part)) throw invalid(`${path}[${index}]`, `must be an object; it is ${show(part)}`)
    return isOurs ? parseOurPart(part, `${path}[${index}]`) : parseTheirPart(part, `${path}[${index}]`)
  })
}

/** A part of what the model said before. */
function parseOurPart(part: Fields, path: string): Part {
  switch (part['type']) {
    case 'input_text':
    case 'output_text':
      refuseOthers(part, path, ['type', 'text', 'annotations', 'logprobs', 'parsed'])
      return toTextPart(readString(part, 'text', path), true)
    case 'refusal':
      refuseOthers(part, path, ['type', 'refusal'])
      return { type: 'refusal', refusal: readString(part, 'refusal', path) }
    default:
      throw invalid(
        `${path}.type`,
        `must be output_text or refusal in a message of the assistant; it is ${show(part['type'])}`,
      )
  }
}

function parseTheirPart(part: Fields, path: string): Part {
  switch (part['type']) {
    case 'input_text':
      refuseOthers(part, path, ['type', 'text'])
      return toTextPart(readString(part, 'text', path), false)
    case 'input_image':
      refuseFileId(part, path)
      refuseOthers(part, path, ['type', 'image_url', 'detail'])
      return {
        type: 'input_image',
        image_url: readString(part, 'image_url', path),
        detail: readDetail(part, path),
      }
    case 'input_file':
      refuseFileId(part, path)
      if ((part['file_url'] ?? null) !== null) {
        throw unsupported(`${path}.file_url`, 'files are not fetched; send the content as `file_data`')
      }
      refuseOthers(part, path, ['type', 'filename', 'file_data'])
      return {
        type: 'input_file',
        ...((part['filename'] ?? null) === null ? {} : { filename: readString(part, 'filename', path) }),
        file_data: readString(part, 'file_data', path),
      }
    default:
      throw invalid(
        `${path}.type`,
        `must be input_text, input_image or input_file; it is ${show(part['type'])}`,
      )
  }
}

function refuseFileId(part: Fields, path: string): void {
  if ((part['file_id'] ?? null) === null) return
  throw unsupported(`${path}.file_id`, 'uploaded files are not put into prompts; send the content itself')
}

function readDetail(part: Fields, path: string): string {
  const detail = part['detail'] ?? 'auto'
  if (detail === 'auto' || detail === 'low' || detail === 'high') return detail
  throw invalid(`${path}.detail`, `must be auto, low or high; it is ${show(detail)}`)
}

const toTextPart = (text: string, isOurs: boolean): Part =>
  isOurs ? { type: 'output_text', text, annotations: [] } : { type: 'input_text', text }
