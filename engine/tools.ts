import { fail } from '../src/core/errors.ts'
import { makeId } from '../src/core/ids.ts'
import { parseJson, type Message } from './messages.ts'
import { boolean, invalid, isObject, refuseOthers, show } from './parameters.ts'

/** A function that the model may call. */
export type Tool = {
  name: string
  /** JSON schema of its arguments. */
  parameters: unknown
  /** As the caller gave it, for the template. */
  definition: unknown
  /** Its place in the request. */
  param: string
  /** Whether its arguments must follow the schema also where the model chooses to call. */
  strict: boolean
}

/** `forced`: the reply is one call of one of these, kept to by grammar. */
export type ToolChoice = { tools: Tool[]; forced: Tool[] }

export type ToolCall = { id: string; type: 'function'; function: { name: string; arguments: string } }

/** @throws invalid_request that names the place. */
export function parseTools(value: unknown, choice: unknown): ToolChoice {
  const tools = ((value ?? []) as unknown[]).map((tool, i) => parseTool(tool, `tools[${i}]`))
  const wanted = choice ?? 'auto'
  if (tools.length === 0) {
    if (wanted === 'none' || wanted === 'auto') return { tools, forced: [] }
    throw invalid('tool_choice', `is ${show(wanted)}, but there are no \`tools\`.`)
  }
  if (wanted === 'none') return { tools: [], forced: [] }
  if (wanted === 'auto') return { tools, forced: [] }
  if (wanted === 'required') return { tools, forced: tools }
  const named = isObject(wanted) && wanted['type'] === 'function' ? wanted['function'] : null
  if (!isObject(named)) {
    throw invalid('tool_choice', `is ${show(wanted)}; it must be "none", "auto", "required" or one function.`)
  }
  if (isObject(wanted)) refuseOthers(wanted, 'tool_choice', ['type', 'function'])
  refuseOthers(named, 'tool_choice.function', ['name'])
  const forced = tools.filter((tool) => tool.name === named['name'])
  if (forced.length === 0) {
    throw invalid('tool_choice', `names the function ${show(named['name'])}, which \`tools\` lacks.`)
  }
  return { tools, forced }
}

function parseTool(tool: unknown, param: string): Tool {
  if (!isObject(tool)) throw invalid(param, `is ${show(tool)}; it must be an object.`)
  if (tool['type'] !== 'function') {
    throw fail('unsupported_parameter', {
      message: `\`${param}.type\` is ${show(tool['type'])}; only "function" is supported.`,
      param: `${param}.type`,
    })
  }
  refuseOthers(tool, param, ['type', 'function'])
  const made = tool['function']
  if (!isObject(made)) throw invalid(`${param}.function`, `is ${show(made)}; it must be an object.`)
  const name = made['name']
  if (typeof name !== 'string' || !/^[\w.-]{1,64}$/.test(name)) {
    throw invalid(`${param}.function.name`, `is ${show(name)}; it must be 1 to 64 letters, digits, _, - or .`)
  }
  refuseOthers(made, `${param}.function`, ['name', 'description', 'parameters', 'strict'])
  const description = made['description'] ?? ''
  if (typeof description !== 'string') {
    throw invalid(`${param}.function.description`, `is ${show(description)}; it must be a text.`)
  }
  const strict = made['strict'] ?? false
  boolean(strict, `${param}.function.strict`)
  const parameters = made['parameters'] ?? { type: 'object', properties: {}, additionalProperties: false }
  if (!isObject(parameters)) throw invalid(`${param}.function.parameters`, 'must be a JSON schema.')
  return {
    name,
    parameters,
    definition: tool,
    param: `${param}.function.parameters`,
    strict: strict === true,
  }
}

/** For models whose template has no words for tools. */
export function describeTools(tools: readonly Tool[]): string {
  const list = tools.map(({ definition }) => JSON.stringify(definition)).join('\n')
  return (
    `You may call these functions:\n${list}\n` +
    'To call one, answer with <tool_call>{"name": its name, "arguments": an object}</tool_call> and nothing else.'
  )
}

/** Calls of an earlier turn, as text. */
export function writeCalls(calls: NonNullable<Message['tool_calls']>): string {
  return calls.map(({ function: made }) => `<tool_call>${JSON.stringify(made)}</tool_call>`).join('')
}

const opening = '<tool_call>'
const closing = '</tool_call>'

/**
 * Divides a reply into text and calls while it comes. What may yet be a call is held back: everything from
 * `<tool_call>` on, and a reply that begins with `{`.
 */
export class ToolCallReader {
  readonly #names: ReadonlySet<string>
  readonly #isForced: boolean
  #held = ''
  #given = ''

  constructor(choice: ToolChoice) {
    this.#names = new Set(choice.tools.map(({ name }) => name))
    this.#isForced = choice.forced.length > 0
  }

  /** The text that may be given out now. */
  push(piece: string): string {
    this.#held += piece
    if (this.#isForced) return ''
    if (this.#given.trim() === '' && this.#held.trimStart().startsWith('{')) return ''
    const at = this.#held.indexOf(opening)
    const safe = at === -1 ? this.#held.length - overlap(this.#held, opening) : at
    return this.#give(safe)
  }

  /** The rest of the reply: its calls, and the text that turned out to be none. */
  finish(): { text: string; calls: ToolCall[] } {
    if (this.#isForced) {
      const call = readCall(this.#held, this.#names) ?? readUnfinished(this.#held)
      return call ? { text: '', calls: [call] } : { text: this.#held, calls: [] }
    }
    const found = this.#held
      .split(opening)
      .map((part) => readCall(part.split(closing)[0] as string, this.#names))
    const calls = found.filter((call) => call !== null)
    return calls.length > 0 ? { text: '', calls } : { text: this.#give(this.#held.length), calls: [] }
  }

  #give(length: number): string {
    const text = this.#held.slice(0, length)
    this.#held = this.#held.slice(length)
    this.#given += text
    return text
  }
}

/** Length of the longest end of `text` that is the beginning of `word`. */
function overlap(text: string, word: string): number {
  for (let length = Math.min(word.length - 1, text.length); length > 0; length -= 1) {
    if (text.endsWith(word.slice(0, length))) return length
  }
  return 0
}

function readCall(text: string, names: ReadonlySet<string>): ToolCall | null {
  const value = parseJson(text.trim())
  if (!isObject(value) || typeof value['name'] !== 'string' || !names.has(value['name'])) return null
  const given = value['arguments'] ?? value['parameters'] ?? {}
  return makeCall(value['name'], typeof given === 'string' ? given : JSON.stringify(given))
}

/** A forced call that the token limit cut: its name, and as much of the arguments as there is. */
function readUnfinished(text: string): ToolCall | null {
  const match = /^\{"name": ?"([\w.-]+)"(?:, ?"arguments": ?([\s\S]*))?$/.exec(text)
  return match ? makeCall(match[1] as string, match[2] ?? '') : null
}

function makeCall(name: string, args: string): ToolCall {
  return { id: makeId('call'), type: 'function', function: { name, arguments: args } }
}
