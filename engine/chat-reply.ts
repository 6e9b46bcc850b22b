import type { ServerResponse } from 'node:http'
import { systemClock } from '../src/core/clock.ts'
import { makeId } from '../src/core/ids.ts'
import type { ChatCall } from './chat.ts'
import type { FinishReason } from './choice.ts'
import type { Reply, TokenCounts } from './generate.ts'
import type { TokenLogprobs } from './job.ts'
import { formatChatLogprobs } from './logprobs.ts'
import type { LoadedModel } from './model.ts'
import { EventStream, makeUsage, sendJson } from './reply.ts'
import { type ToolCall, ToolCallReader } from './tools.ts'

type ChatFinishReason = FinishReason | 'tool_calls'

function makeHead<T extends string>(object: T, loaded: LoadedModel) {
  return {
    id: makeId('chatcmpl'),
    object,
    created: Math.floor(systemClock.wallMs() / 1000),
    model: loaded.name,
  }
}

/** A cut call is not a call yet: the limit is what the caller must hear of. */
function finishReason(reason: FinishReason, calls: readonly ToolCall[]): ChatFinishReason {
  return calls.length > 0 && reason !== 'length' ? 'tool_calls' : reason
}

export class WholeChat implements Reply {
  readonly #call: ChatCall
  readonly #response: ServerResponse
  readonly #loaded: LoadedModel
  readonly #open: { text: string; entries: TokenLogprobs[] }[]
  readonly #choices: unknown[] = []

  constructor(call: ChatCall, response: ServerResponse, loaded: LoadedModel) {
    this.#call = call
    this.#response = response
    this.#loaded = loaded
    this.#open = Array.from({ length: call.n }, () => ({ text: '', entries: [] }))
  }

  onText(index: number, text: string, entries: readonly TokenLogprobs[]): void {
    const open = this.#open[index] as { text: string; entries: TokenLogprobs[] }
    open.text += text
    open.entries.push(...entries)
  }

  onFinish(index: number, reason: FinishReason): void {
    const { text, entries } = this.#open[index] as { text: string; entries: TokenLogprobs[] }
    const { content, calls } = this.#divide(text)
    this.#choices[index] = {
      index,
      message: {
        role: 'assistant',
        content: content === '' && calls.length > 0 ? null : content,
        refusal: null,
        ...(calls.length > 0 && { tool_calls: calls }),
      },
      logprobs: this.#call.topLogprobs === null ? null : formatChatLogprobs(entries, this.#loaded.vocabulary),
      finish_reason: finishReason(reason, calls),
    }
  }

  end(tokens: TokenCounts): void {
    const head = makeHead('chat.completion', this.#loaded)
    sendJson(this.#response, 200, { ...head, choices: this.#choices, usage: makeUsage(tokens) })
  }

  #divide(text: string): { content: string; calls: ToolCall[] } {
    if (this.#call.tools.tools.length === 0) return { content: text, calls: [] }
    const reader = new ToolCallReader(this.#call.tools)
    const before = reader.push(text)
    const rest = reader.finish()
    return { content: before + rest.text, calls: rest.calls.slice(0, this.#call.callsMax) }
  }
}

export class StreamedChat implements Reply {
  readonly #call: ChatCall
  readonly #loaded: LoadedModel
  readonly #events: EventStream
  readonly #head: object
  readonly #prefix: string
  readonly #suffix: string
  /** Choices that have said who speaks. */
  readonly #begun = new Set<number>()
  readonly #readers: (ToolCallReader | null)[]
  /** Log probabilities of tokens whose text a reader holds back. */
  readonly #entries: TokenLogprobs[][]

  constructor(call: ChatCall, response: ServerResponse, loaded: LoadedModel) {
    this.#call = call
    this.#loaded = loaded
    this.#events = new EventStream(response)
    this.#head = makeHead('chat.completion.chunk', loaded)
    // Each token costs one event; what all of them have in common is put into JSON once.
    this.#prefix = `${JSON.stringify(this.#head).slice(0, -1)},"choices":[{"index":`
    this.#suffix = call.includeUsage ? '}],"usage":null}' : '}]}'
    const usesTools = call.tools.tools.length > 0
    this.#readers = Array.from({ length: call.n }, () => (usesTools ? new ToolCallReader(call.tools) : null))
    this.#entries = Array.from({ length: call.n }, () => [])
  }

  onText(index: number, text: string, entries: readonly TokenLogprobs[]): void {
    this.#begin(index)
    const reader = this.#readers[index]
    this.#entries[index]?.push(...entries)
    const given = reader ? reader.push(text) : text
    if (given !== '' || !reader) this.#writeText(index, given)
  }

  onFinish(index: number, reason: FinishReason): void {
    this.#begin(index)
    const { text, calls } = this.#readers[index]?.finish() ?? { text: '', calls: [] }
    if (text !== '') this.#writeText(index, text)
    const kept = calls.slice(0, this.#call.callsMax)
    for (const [i, call] of kept.entries()) {
      this.#write(index, `{"tool_calls":[${JSON.stringify({ index: i, ...call })}]}`, null, null)
    }
    this.#write(index, '{}', null, finishReason(reason, kept))
  }

  end(tokens: TokenCounts): void {
    if (this.#call.includeUsage) {
      this.#events.write(JSON.stringify({ ...this.#head, choices: [], usage: makeUsage(tokens) }))
    }
    this.#events.end()
  }

  #begin(index: number): void {
    if (this.#begun.has(index)) return
    this.#begun.add(index)
    this.#write(index, '{"role":"assistant","content":"","refusal":null}', null, null)
  }

  #writeText(index: number, text: string): void {
    const entries = this.#entries[index]?.splice(0) ?? []
    const wanted = this.#call.topLogprobs !== null
    const logprobs = wanted ? JSON.stringify(formatChatLogprobs(entries, this.#loaded.vocabulary)) : null
    this.#write(index, `{"content":${JSON.stringify(text)}}`, logprobs, null)
  }

  #write(index: number, delta: string, logprobs: string | null, reason: ChatFinishReason | null): void {
    const end = reason === null ? 'null' : `"${reason}"`
    this.#events.write(
      `${this.#prefix}${index},"delta":${delta},"logprobs":${logprobs ?? 'null'},"finish_reason":${end}${this.#suffix}`,
    )
  }
}
