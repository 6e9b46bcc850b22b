import { fail, type ApiError } from '../../core/errors.ts'
import type { Fields } from '../calls/body.ts'
import type { FunctionCallItem, ItemStatus, MessageItem, Part, ReasoningItem } from './items.ts'
import { isObject } from './refusal.ts'
import type { ResponsesRequest } from './request.ts'
import {
  describeResponse,
  isText,
  makeMessage,
  makeReasoning,
  makeTextPart,
  OutputIds,
  readEnd,
  readLogprobs,
  toResponseError,
  toUsage,
  type OutputItem,
  type Progress,
  type ResponseIdentity,
  type ResponseObject,
  type ResponseUsage,
} from './response.ts'

/** One event of a response's stream, without its number: that is given where it is sent. */
export type ResponseEvent = { type: string } & Fields

type OpenText = { text: string; logprobs: unknown[]; index: number }
type OpenMessage = {
  kind: 'message'
  item: Required<MessageItem>
  index: number
  /** Open parts, in the order of their appearance. */
  parts: ('text' | 'refusal')[]
  text: OpenText
  refusal: OpenText
}
type OpenReasoning = { kind: 'reasoning'; item: Required<ReasoningItem>; index: number; text: string }
type OpenCall = {
  kind: 'call'
  item: Required<FunctionCallItem>
  index: number
  place: number
  givenId: unknown
  text: string
}
type OpenItem = OpenMessage | OpenReasoning | OpenCall

/**
 * Translates the chunks of a chat completion into the events of a response, as they come:
 *
 *   start -> created, in_progress
 *   push  -> output_item.added, content_part.added, …delta            for each chunk
 *   finish-> …done, content_part.done, output_item.done, completed or incomplete
 *   fail  -> the same for what is open, and failed
 *
 * Thoughts end where something else begins, a message where calls begin. Calls stay open until the end or until
 * something that is no call follows, for an instance may send their arguments in turns.
 */
export class ResponseStream {
  readonly #request: ResponsesRequest
  readonly #identity: ResponseIdentity
  readonly #ids: OutputIds
  readonly #output: OutputItem[] = []
  #open: OpenItem[] = []
  #usage: ResponseUsage | null = null
  #finishReason: unknown = null
  #hasChoice = false
  #response: ResponseObject | null = null

  constructor(parts: { request: ResponsesRequest; identity: ResponseIdentity }) {
    this.#request = parts.request
    this.#identity = parts.identity
    this.#ids = new OutputIds(parts.identity.id)
  }

  /** The response at its end; null before. */
  get response(): ResponseObject | null {
    return this.#response
  }

  start(): ResponseEvent[] {
    const response = this.#describe({ status: 'in_progress' })
    return [
      { type: 'response.created', response },
      { type: 'response.in_progress', response },
    ]
  }

  /** The events of one chunk. Throws when the chunk is an error of the instance. */
  push(chunk: Fields): ResponseEvent[] {
    if ((chunk['error'] ?? null) !== null) throw toChunkError(chunk['error'])
    this.#usage = toUsage(chunk['usage']) ?? this.#usage
    const choice: unknown = Array.isArray(chunk['choices']) ? chunk['choices'][0] : undefined
    if (!isObject(choice)) return []
    this.#hasChoice = true
    this.#finishReason = choice['finish_reason'] ?? this.#finishReason
    const delta = isObject(choice['delta']) ? choice['delta'] : {}
    const events: ResponseEvent[] = []
    const thought = delta['reasoning_content'] ?? delta['reasoning']
    if (isText(thought)) this.#pushThought(thought, events)
    const logprobs = this.#request.hasLogprobs ? readLogprobs(choice) : []
    if (isText(delta['content'])) this.#pushPart('text', delta['content'], logprobs, events)
    if (isText(delta['refusal'])) this.#pushPart('refusal', delta['refusal'], [], events)
    const calls = Array.isArray(delta['tool_calls']) ? (delta['tool_calls'] as unknown[]) : []
    for (const [place, call] of calls.entries()) if (isObject(call)) this.#pushCall(call, place, events)
    return events
  }

  /** The last events. Throws upstream_invalid when nothing like a chat completion came. */
  finish(completedAtMs: number): ResponseEvent[] {
    if (!this.#hasChoice) {
      throw fail('upstream_invalid', {
        message: 'The model instance answered something that is no chat completion.',
      })
    }
    const events: ResponseEvent[] = []
    if (this.#output.length === 0 && this.#open.length === 0) {
      this.#openPart(this.#openMessage(events), 'text', events)
    }
    const { status, incomplete } = readEnd(this.#finishReason)
    this.#closeAll(events, status === 'incomplete' ? 'incomplete' : 'completed')
    this.#response = this.#describe({ status, incomplete, completedAtMs, output: this.#output })
    events.push({ type: `response.${status}`, response: this.#response })
    return events
  }

  /** The last events of a stream that broke off. */
  fail(error: ApiError): ResponseEvent[] {
    const events: ResponseEvent[] = []
    this.#closeAll(events, 'incomplete')
    this.#response = this.#describe({ status: 'failed', error: toResponseError(error), output: this.#output })
    events.push({ type: 'response.failed', response: this.#response })
    return events
  }

  #describe(progress: Progress): ResponseObject {
    return describeResponse(this.#request, this.#identity, { usage: this.#usage, ...progress })
  }

  #pushThought(delta: string, events: ResponseEvent[]): void {
    let item = this.#open.find((open) => open.kind === 'reasoning')
    if (!item) {
      this.#closeAll(events, 'completed')
      item = {
        kind: 'reasoning',
        item: makeReasoning(this.#ids.next('rs'), ''),
        index: this.#nextIndex(),
        text: '',
      }
      this.#add(item, { ...item.item, status: 'in_progress', content: [] }, events)
      events.push({
        type: 'response.content_part.added',
        ...placeOf(item),
        content_index: 0,
        part: { type: 'reasoning_text', text: '' },
      })
    }
    item.text += delta
    events.push({ type: 'response.reasoning_text.delta', ...placeOf(item), content_index: 0, delta })
  }

  #pushPart(kind: 'text' | 'refusal', delta: string, logprobs: unknown[], events: ResponseEvent[]): void {
    const message = this.#openMessage(events)
    if (!message.parts.includes(kind)) this.#openPart(message, kind, events)
    const part = message[kind]
    part.text += delta
    part.logprobs.push(...logprobs)
    events.push({
      type: kind === 'text' ? 'response.output_text.delta' : 'response.refusal.delta',
      ...placeOf(message),
      content_index: part.index,
      delta,
      ...(kind === 'text' ? { logprobs } : {}),
    })
  }

  #openMessage(events: ResponseEvent[]): OpenMessage {
    const open = this.#open.find((item) => item.kind === 'message')
    if (open) return open
    this.#closeAll(events, 'completed')
    const item: OpenMessage = {
      kind: 'message',
      item: makeMessage(this.#ids.next('msg'), []),
      index: this.#nextIndex(),
      parts: [],
      text: { text: '', logprobs: [], index: 0 },
      refusal: { text: '', logprobs: [], index: 0 },
    }
    this.#add(item, { ...item.item, status: 'in_progress' }, events)
    return item
  }

  #openPart(message: OpenMessage, kind: 'text' | 'refusal', events: ResponseEvent[]): void {
    message[kind].index = message.parts.length
    message.parts.push(kind)
    events.push({
      type: 'response.content_part.added',
      ...placeOf(message),
      content_index: message[kind].index,
      part: this.#makePart(message, kind),
    })
  }

  #makePart(message: OpenMessage, kind: 'text' | 'refusal'): Part {
    const { text, logprobs } = message[kind]
    if (kind === 'refusal') return { type: 'refusal', refusal: text }
    return makeTextPart(text, [...logprobs], this.#request.hasLogprobs)
  }

  #pushCall(call: Fields, position: number, events: ResponseEvent[]): void {
    const place = Number.isInteger(call['index']) ? (call['index'] as number) : position
    const made = isObject(call['function']) ? call['function'] : {}
    const isSame = (open: OpenItem): open is OpenCall => open.kind === 'call' && open.place === place
    let item = this.#open.findLast(isSame)
    // Some instances give every call the same place: another id and name are another call.
    if (item && isText(call['id']) && call['id'] !== item.givenId && isText(made['name'])) item = undefined
    if (!item) {
      if (this.#open.some(({ kind }) => kind !== 'call')) this.#closeAll(events, 'completed')
      item = {
        kind: 'call',
        item: {
          ...this.#ids.nextCall(call['id']),
          type: 'function_call',
          status: 'completed',
          name: isText(made['name']) ? made['name'] : '',
          arguments: '',
        },
        index: this.#nextIndex(),
        place,
        givenId: call['id'],
        text: '',
      }
      this.#add(item, { ...item.item, status: 'in_progress' }, events)
    }
    const delta = made['arguments']
    if (!isText(delta)) return
    item.text += delta
    events.push({ type: 'response.function_call_arguments.delta', ...placeOf(item), delta })
  }

  #nextIndex(): number {
    return this.#output.length + this.#open.length
  }

  #add(item: OpenItem, shown: OutputItem, events: ResponseEvent[]): void {
    this.#open.push(item)
    events.push({ type: 'response.output_item.added', output_index: item.index, item: shown })
  }

  /** Ends all open items, in their order; `status` is that of the last one, and of it alone. */
  #closeAll(events: ResponseEvent[], status: ItemStatus): void {
    const open = this.#open
    this.#open = []
    for (const [position, item] of open.entries()) {
      const own = position === open.length - 1 ? status : 'completed'
      const done = { ...this.#close(item, events), status: own }
      this.#output.push(done)
      events.push({ type: 'response.output_item.done', output_index: item.index, item: done })
    }
  }

  #close(open: OpenItem, events: ResponseEvent[]): OutputItem {
    const place = placeOf(open)
    if (open.kind === 'call') {
      const { text } = open
      events.push({
        type: 'response.function_call_arguments.done',
        ...place,
        name: open.item.name,
        arguments: text,
      })
      return { ...open.item, arguments: text }
    }
    if (open.kind === 'reasoning') {
      const done = makeReasoning(open.item.id, open.text)
      const at = { ...place, content_index: 0 }
      events.push({ type: 'response.reasoning_text.done', ...at, text: open.text })
      events.push({ type: 'response.content_part.done', ...at, part: done.content[0] })
      return done
    }
    const content = open.parts.map((kind) => {
      const { text, logprobs, index } = open[kind]
      const part = this.#makePart(open, kind)
      const at = { ...place, content_index: index }
      if (kind === 'text')
        events.push({ type: 'response.output_text.done', ...at, text, logprobs: [...logprobs] })
      else events.push({ type: 'response.refusal.done', ...at, refusal: text })
      events.push({ type: 'response.content_part.done', ...at, part })
      return part
    })
    return { ...open.item, content }
  }
}

const placeOf = ({ item, index }: OpenItem) => ({ item_id: item.id, output_index: index })

/** An error that an instance sent in the middle of its stream. */
function toChunkError(error: unknown): ApiError {
  const said =
    isObject(error) && typeof error['message'] === 'string' ? error['message'] : JSON.stringify(error)
  return fail('upstream_failed', {
    message: `The model instance broke off: ${said.replaceAll(/[\u0000-\u001f\u007f]+/g, ' ').slice(0, 300)}`,
  })
}

/** A whole chat completion as the one chunk of a stream, for an instance that does not stream. */
export function toChunk(chat: Fields): Fields {
  const choice: unknown = Array.isArray(chat['choices']) ? chat['choices'][0] : undefined
  if (!isObject(choice) || !isObject(choice['message'])) return { ...chat, choices: [] }
  return { ...chat, choices: [{ ...choice, delta: choice['message'] }] }
}
