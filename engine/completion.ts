import type { ServerResponse } from 'node:http'
import { systemClock } from '../src/core/clock.ts'
import { makeId } from '../src/core/ids.ts'
import { type Body, type Call, parseCall } from './call.ts'
import type { Choice, FinishReason } from './choice.ts'
import type { Engine } from './engine.ts'
import { assertRoom, generate, type Reply, type TokenCounts } from './generate.ts'
import type { TokenLogprobs } from './job.ts'
import { type CompletionLogprobs, formatCompletionLogprobs, lengthOf } from './logprobs.ts'
import { integer } from './parameters.ts'
import { parsePrompts, type Prompt } from './prompt.ts'
import { EventStream, makeUsage, sendJson } from './reply.ts'

const tokensMaxDefault = 16

type CompletionCall = Call & { prompts: Prompt[]; echo: boolean; logprobs: number | null }

function parseCompletion(body: Body, engine: Engine): CompletionCall {
  const { loaded } = engine
  const call = parseCall('completions', body, loaded)
  const logprobs = (body['logprobs'] ?? null) as number | null
  if (logprobs !== null) integer({ min: 0, max: 5 })(logprobs, 'logprobs')
  const prompts = parsePrompts(body, 'prompt', loaded)
  assertRoom(prompts.length * call.n, engine)
  return { ...call, prompts, logprobs, echo: body['echo'] === true }
}

/**
 * POST /v1/completions. Resolves when the reply is complete; rejects with what goes wrong before or during it.
 * Choices are numbered prompt by prompt: those of the first prompt come first.
 */
export function complete(
  body: Body,
  response: ServerResponse,
  engine: Engine,
  signal: AbortSignal,
): Promise<void> {
  const call = parseCompletion(body, engine)
  const reply = call.stream
    ? new StreamedCompletion(call, response, engine)
    : new WholeCompletion(call, response, engine)
  const plan = {
    call,
    tokensMax: call.tokensMax ?? tokensMaxDefault,
    grammar: null,
    topLogprobs: call.logprobs,
    promptLogprobs: call.echo && call.logprobs !== null,
  }
  return generate(plan, reply, engine, signal)
}

abstract class CompletionReply implements Reply {
  protected readonly call: CompletionCall
  protected readonly response: ServerResponse
  protected readonly engine: Engine
  protected readonly head: { id: string; object: 'text_completion'; created: number; model: string }
  readonly #offsets: number[]

  constructor(call: CompletionCall, response: ServerResponse, engine: Engine) {
    this.call = call
    this.response = response
    this.engine = engine
    this.head = {
      id: makeId('cmpl'),
      object: 'text_completion',
      created: Math.floor(systemClock.wallMs() / 1000),
      model: engine.loaded.name,
    }
    this.#offsets = Array.from({ length: call.prompts.length * call.n }, () => 0)
  }

  abstract onText(index: number, text: string, logprobs: readonly TokenLogprobs[], choice: Choice): void
  abstract onFinish(index: number, reason: FinishReason, choice: Choice): void
  abstract end(tokens: TokenCounts): void

  protected promptOf(index: number): Prompt {
    return this.call.prompts[Math.floor(index / this.call.n)] as Prompt
  }

  protected format(index: number, entries: readonly TokenLogprobs[]): CompletionLogprobs | null {
    if (this.call.logprobs === null) return null
    const { vocabulary } = this.engine.loaded
    const offset = this.#offsets[index] as number
    this.#offsets[index] = entries.reduce((sum, { token }) => sum + lengthOf(token, vocabulary), offset)
    return formatCompletionLogprobs(entries, vocabulary, { offset, top: this.call.logprobs })
  }

  /** The prompt's own tokens, for `echo`; the first has nothing before it to be likely after. */
  protected formatPrompt(index: number, choice: Choice): CompletionLogprobs | null {
    if (this.call.logprobs === null) return null
    const { tokens, text } = this.promptOf(index)
    const first = tokens[0] as number
    // Some tokenisers put a space before a text that is not part of it.
    const { vocabulary } = this.engine.loaded
    const spelled = tokens.reduce((sum, token) => sum + lengthOf(token, vocabulary), 0)
    if (spelled === Array.from(text).length + 1) this.#offsets[index] = -1
    const list = this.format(index, [{ token: first, logprob: 0, top: [] }, ...choice.promptLogprobs])
    if (list === null) return null
    list.token_logprobs[0] = null
    if (list.top_logprobs) list.top_logprobs[0] = null
    return list
  }
}

class WholeCompletion extends CompletionReply {
  readonly #texts: string[] = []
  readonly #entries: TokenLogprobs[][] = []
  readonly #choices: unknown[] = []

  onText(index: number, text: string, logprobs: readonly TokenLogprobs[]): void {
    this.#texts[index] = (this.#texts[index] ?? '') + text
    const entries = (this.#entries[index] ??= [])
    entries.push(...logprobs)
  }

  onFinish(index: number, reason: FinishReason, choice: Choice): void {
    const { echo } = this.call
    const before = echo ? this.formatPrompt(index, choice) : null
    const after = this.format(index, this.#entries[index] ?? [])
    this.#choices[index] = {
      index,
      text: (echo ? this.promptOf(index).text : '') + (this.#texts[index] ?? ''),
      logprobs: before && after ? join(before, after) : after,
      finish_reason: reason,
    }
  }

  end(tokens: TokenCounts): void {
    sendJson(this.response, 200, { ...this.head, choices: this.#choices, usage: makeUsage(tokens) })
  }
}

function join(a: CompletionLogprobs, b: CompletionLogprobs): CompletionLogprobs {
  return {
    tokens: [...a.tokens, ...b.tokens],
    token_logprobs: [...a.token_logprobs, ...b.token_logprobs],
    top_logprobs: a.top_logprobs && b.top_logprobs ? [...a.top_logprobs, ...b.top_logprobs] : null,
    text_offset: [...a.text_offset, ...b.text_offset],
  }
}

class StreamedCompletion extends CompletionReply {
  readonly #events: EventStream
  readonly #prefix: string
  /** Choices whose prompt has been given back already. */
  readonly #echoed = new Set<number>()

  constructor(call: CompletionCall, response: ServerResponse, engine: Engine) {
    super(call, response, engine)
    this.#events = new EventStream(response)
    // Each token costs one event; what all of them have in common is put into JSON once.
    this.#prefix = `${JSON.stringify(this.head).slice(0, -1)},"choices":[{"index":`
  }

  onText(index: number, text: string, entries: readonly TokenLogprobs[], choice: Choice): void {
    if (this.call.echo) this.#echo(index, choice)
    this.#write(index, text, this.format(index, entries), null)
  }

  onFinish(index: number, reason: FinishReason, choice: Choice): void {
    if (this.call.echo) this.#echo(index, choice)
    this.#write(index, '', null, reason)
  }

  end(tokens: TokenCounts): void {
    if (this.call.includeUsage) {
      this.#events.write(JSON.stringify({ ...this.head, choices: [], usage: makeUsage(tokens) }))
    }
    this.#events.end()
  }

  #echo(index: number, choice: Choice): void {
    if (this.#echoed.has(index)) return
    this.#echoed.add(index)
    this.#write(index, this.promptOf(index).text, this.formatPrompt(index, choice), null)
  }

  #write(
    index: number,
    text: string,
    logprobs: CompletionLogprobs | null,
    reason: FinishReason | null,
  ): void {
    const usage = this.call.includeUsage ? ',"usage":null}' : '}'
    const end = reason === null ? 'null' : `"${reason}"`
    const list = logprobs === null ? 'null' : JSON.stringify(logprobs)
    this.#events.write(
      `${this.#prefix}${index},"text":${JSON.stringify(text)},"logprobs":${list},"finish_reason":${end}}]${usage}`,
    )
  }
}
