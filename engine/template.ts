import { Template } from '@huggingface/jinja'
import type { Message } from './messages.ts'
import type { LoadedModel } from './model.ts'
import { invalid } from './parameters.ts'
import { assertFits, tokenizeBounded, withBeginning } from './prompt.ts'
import { describeTools, writeCalls, type Tool } from './tools.ts'

export type ChatTemplate = {
  /** Stop texts that the format itself needs. */
  stops: readonly string[]
  /** The conversation as tokens, ready for the assistant to go on. */
  render(messages: readonly Message[], tools: readonly Tool[]): number[]
}

/** The model's own template, or for a model without one the plain format `User: … / Assistant: …`. */
export function createChatTemplate(loaded: LoadedModel): ChatTemplate {
  const source = loaded.chatTemplate
  if (source === null) return createPlainTemplate(loaded)
  const template = parseTemplate(source)
  const { bosString, eosString } = loaded.model.tokens
  return {
    stops: [],
    render(messages, tools) {
      const fitted = fit(source, messages, tools)
      const marker = pickMarker(JSON.stringify(fitted))
      const names = loaded.vocabulary.controlTexts()
      const { value, marked } = defuse(fitted, [...names.keys()], marker)
      let text: string
      try {
        text = template.render({
          ...value,
          add_generation_prompt: true,
          bos_token: bosString ?? '',
          eos_token: eosString ?? '',
        })
      } catch (error) {
        throw invalid('messages', `do not fit the chat template of this model: ${(error as Error).message}`)
      }
      const tokens = marked ? tokenizeDefused(text, marker, loaded) : tokenize(text, true, loaded)
      return finish(tokens, loaded)
    },
  }
}

/** A template that cannot be read is a matter of the chat route alone: the other routes do without. */
function parseTemplate(source: string): Pick<Template, 'render'> {
  try {
    return new Template(source)
  } catch (error) {
    const { message } = error as Error
    return {
      render() {
        throw new Error(`it cannot be read (${message}); use /v1/completions`)
      },
    }
  }
}

function createPlainTemplate(loaded: LoadedModel): ChatTemplate {
  const speakers: Record<string, string> = { user: 'User', assistant: 'Assistant', tool: 'Tool' }
  return {
    // Without an end token of its own the model would go on and write the user's part as well.
    stops: ['\nUser:'],
    render(messages, tools) {
      const lines = fit('', messages, tools).messages.map(({ role, content }) =>
        speakers[role] === undefined ? content : `${speakers[role]}: ${content}`,
      )
      return finish(tokenize([...lines, 'Assistant:'].join('\n'), false, loaded), loaded)
    },
  }
}

function tokenize(text: string, special: boolean, loaded: LoadedModel): number[] {
  return tokenizeBounded(text, { special, param: 'messages' }, loaded)
}

function finish(tokens: number[], loaded: LoadedModel): number[] {
  const prompt = withBeginning(tokens, loaded)
  assertFits(prompt.length, loaded, 'messages')
  return prompt
}

type Fitted = { messages: Message[]; tools?: unknown[] }

/** Says in plain messages what a template has no words for. */
function fit(source: string, messages: readonly Message[], tools: readonly Tool[]): Fitted {
  const knowsTools = /\btools\b/.test(source)
  const fitted = messages.map((message) => {
    const role = message.role === 'developer' && !source.includes('developer') ? 'system' : message.role
    if (!message.tool_calls || source.includes('tool_calls')) return { ...message, role }
    const { tool_calls: calls, ...rest } = message
    return { ...rest, role, content: `${message.content}${writeCalls(calls)}` }
  })
  if (tools.length === 0) return { messages: fitted }
  if (knowsTools) return { messages: fitted, tools: tools.map(({ definition }) => definition) }
  const [first, ...others] = fitted
  const description = describeTools(tools)
  if (first?.role !== 'system') return { messages: [{ role: 'system', content: description }, ...fitted] }
  return { messages: [{ ...first, content: `${first.content}\n\n${description}` }, ...others] }
}

/**
 * Names of control tokens in what the caller wrote, such as `<|im_end|>`, must reach the model as the characters they
 * are: otherwise any text could end its own turn and speak as the system. Each gets a marker behind its first
 * character, so that it is not found as a token, and the marker is taken out again between the tokens.
 */
export function defuse<T>(value: T, names: readonly string[], marker: string): { value: T; marked: boolean } {
  let marked = false
  const visit = (item: unknown): unknown => {
    if (typeof item === 'string') {
      let text = item
      for (const name of names) {
        if (!text.includes(name)) continue
        marked = true
        text = text.replaceAll(name, `${name.slice(0, 1)}${marker}${name.slice(1)}`)
      }
      return text
    }
    if (Array.isArray(item)) return item.map(visit)
    if (typeof item !== 'object' || item === null) return item
    return Object.fromEntries(Object.entries(item).map(([key, inner]) => [visit(key), visit(inner)]))
  }
  return { value: visit(value) as T, marked }
}

/** A character for private use that the caller has not used. */
function pickMarker(text: string): string {
  for (let code = 0xe000; code < 0xf8ff; code += 1) {
    const marker = String.fromCharCode(code)
    if (!text.includes(marker)) return marker
  }
  throw invalid('messages', 'use every character that Unicode leaves for private use.')
}

/** Control tokens where the template wrote them; all between them as plain text, without its markers. */
function tokenizeDefused(text: string, marker: string, loaded: LoadedModel): number[] {
  const names = loaded.vocabulary.controlTexts()
  return splitByNames(text, [...names.keys()]).flatMap((part) => {
    const token = names.get(part)
    return token === undefined ? tokenize(part.replaceAll(marker, ''), false, loaded) : [token]
  })
}

/** `text` cut at every occurrence of a name, names included; of two that begin together the longer one counts. */
export function splitByNames(text: string, names: readonly string[]): string[] {
  const escaped = [...names]
    .sort((a, b) => b.length - a.length)
    .map((name) => name.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`))
  if (escaped.length === 0) return [text]
  return text.split(new RegExp(`(${escaped.join('|')})`)).filter((part) => part !== '')
}
