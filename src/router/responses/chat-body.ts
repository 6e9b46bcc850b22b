import type { Fields } from '../calls/body.ts'
import type { Item, MessageItem, Part } from './items.ts'
import { invalid } from './refusal.ts'
import type { ResponsesRequest, TextFormat } from './request.ts'
import type { FunctionTool, ToolChoice } from './tools.ts'

type ChatMessage = {
  role: string
  content: string | null | Fields[]
  tool_call_id?: string
  tool_calls?: Fields[]
}

/**
 * The request as the body of a chat completion. `context` is the conversation that it goes on from. Only what the
 * caller set is sent: the rest stays with the instance's own defaults.
 */
export function toChatBody(
  request: ResponsesRequest,
  context: readonly Item[],
  { stream }: { stream: boolean },
): Fields {
  const { toolChoice } = request
  const messages = toMessages(request.instructions, [...context, ...request.input])
  if (messages.length === 0) throw invalid('input', 'must hold a message')
  const tools =
    typeof toolChoice === 'object' && toolChoice.type === 'allowed_tools'
      ? request.tools.filter(({ name }) => toolChoice.tools.some((allowed) => allowed.name === name))
      : request.tools
  return {
    ...request.passedOn,
    model: request.model,
    messages,
    ...given('max_tokens', request.maxOutputTokens),
    ...given('temperature', request.temperature),
    ...given('top_p', request.topP),
    ...(request.hasLogprobs ? { logprobs: true } : {}),
    ...(request.topLogprobs > 0 ? { top_logprobs: request.topLogprobs } : {}),
    ...(tools.length > 0 ? { tools: tools.map(toChatTool) } : {}),
    // Without tools there is nothing to choose from, and some instances refuse the word.
    ...(tools.length > 0 || toolChoice === 'required' ? { tool_choice: toChatChoice(toolChoice) } : {}),
    ...(tools.length > 0 ? given('parallel_tool_calls', request.parallelToolCalls) : {}),
    ...toResponseFormat(request.format),
    ...given('reasoning_effort', request.effort),
    ...given('user', request.user),
    ...(stream ? { stream: true, stream_options: { include_usage: true } } : {}),
  }
}

const given = (name: string, value: unknown): Fields => (value === null ? {} : { [name]: value })

function toChatTool({ name, description, parameters, strict }: FunctionTool): Fields {
  return {
    type: 'function',
    function: {
      name,
      ...given('description', description),
      ...given('parameters', parameters),
      ...given('strict', strict),
    },
  }
}

function toChatChoice(choice: ToolChoice): unknown {
  if (typeof choice === 'string') return choice
  return choice.type === 'function' ? { type: 'function', function: { name: choice.name } } : choice.mode
}

function toResponseFormat(format: TextFormat): Fields {
  if (format.type === 'text') return {}
  if (format.type === 'json_object') return { response_format: { type: 'json_object' } }
  const { name, schema, strict, description } = format
  const json_schema = {
    name,
    schema,
    ...given('strict', strict),
    ...given('description', description ?? null),
  }
  return { response_format: { type: 'json_schema', json_schema } }
}

/** Items as messages: calls join the assistant's message that they follow, and what was thought is left out. */
function toMessages(instructions: string | null, items: readonly Item[]): ChatMessage[] {
  const messages: ChatMessage[] = instructions === null ? [] : [{ role: 'system', content: instructions }]
  const calls = new Set<string>()
  for (const item of items) {
    if (item.type === 'reasoning') continue
    if (item.type === 'message') {
      addMessage(messages, item)
    } else if (item.type === 'function_call') {
      calls.add(item.call_id)
      addCall(messages, {
        id: item.call_id,
        type: 'function',
        function: { name: item.name, arguments: item.arguments },
      })
    } else {
      if (!calls.has(item.call_id)) {
        throw invalid('input', `holds the output of a call that was not made: ${item.call_id.slice(0, 100)}`)
      }
      const content = typeof item.output === 'string' ? item.output : item.output.map(textOf).join('')
      messages.push({ role: 'tool', tool_call_id: item.call_id, content })
    }
  }
  return messages
}

function addMessage(messages: ChatMessage[], { role, content }: MessageItem): void {
  if (role === 'user') {
    const [only] = content
    const isText = content.length === 1 && only?.type === 'input_text'
    messages.push({ role, content: isText ? only.text : content.map(toChatPart) })
    return
  }
  const text = content.map(textOf).join('')
  const first = messages[0]
  // Many templates take one system message, and at the beginning only.
  if (role !== 'assistant' && messages.length === 1 && first?.role === 'system') {
    first.content = `${String(first.content)}\n\n${text}`
  } else {
    // The name `developer` is OpenAI's alone; to all others it is the system's message.
    messages.push({ role: role === 'developer' ? 'system' : role, content: text })
  }
}

function addCall(messages: ChatMessage[], call: Fields): void {
  const last = messages.at(-1)
  if (last?.role === 'assistant') (last.tool_calls ??= []).push(call)
  else messages.push({ role: 'assistant', content: null, tool_calls: [call] })
}

function textOf(part: Part): string {
  if (part.type === 'refusal') return part.refusal
  if (part.type === 'input_text' || part.type === 'output_text') return part.text
  throw invalid('input', `may hold ${part.type} in messages of the user only`)
}

function toChatPart(part: Part): Fields {
  switch (part.type) {
    case 'input_image':
      return { type: 'image_url', image_url: { url: part.image_url, detail: part.detail } }
    case 'input_file':
      return {
        type: 'file',
        file: { ...given('filename', part.filename ?? null), file_data: part.file_data },
      }
    default:
      return { type: 'text', text: textOf(part) }
  }
}
