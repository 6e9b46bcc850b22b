import { fail, toApiError, type ApiError } from '../core/errors.ts'
import { isEventStream } from '../core/sse.ts'
import type { AnswerHead, Sink } from '../router/call.ts'
import { compileParser, modelRoutes, type ParsedCall } from '../router/calls/completion-call.ts'
import type { Router } from '../router/router.ts'
import { CollectSink, tooLarge, type Answer } from './collect-sink.ts'
import { isFoldable, StreamFold } from './fold-stream.ts'
import { readUsage } from './read-usage.ts'
import type { Executor, JobContext } from './runner.ts'
import type { CallWork, TaskEndpoint } from './task.ts'

const parsers = new Map(modelRoutes.map((route) => [`/v1${route.path}`, compileParser(route)]))

/** The endpoints that this executor answers. */
export const callEndpoints = [...parsers.keys()] as TaskEndpoint[]

/** The depth of a body was looked at where it came in. */
const limits = { jsonDepthMax: 1000 }

/**
 * Asks a model as the live route would, and gives the body that it would have answered. Where the answer can be put
 * together again from a stream, it is asked for as one: progress is seen, and a long answer shows that it is alive.
 */
export function makeCallExecutor({ router }: { router: Pick<Router, 'run'> }): Executor {
  return async ({ task }, work, context) => {
    const call = makeCall(work, `${task.id}-${task.attempt}`)
    const { body, instance } = await runCall(router, call, context)
    return { result: body, usage: readUsage(parseAnswer(body)), instance }
  }
}

/** Throws invalid_request: what a step's references were replaced by may not be what the route takes. */
function makeCall({ endpoint, body }: CallWork, id: string): ParsedCall {
  const parse = parsers.get(endpoint)
  if (!parse) throw fail('internal', { message: `Nothing answers ${endpoint} here.` })
  const { stream: _stream, stream_options: _options, ...whole } = body
  const asked = isFoldable(endpoint.slice('/v1'.length), whole)
    ? { ...whole, stream: true, stream_options: { include_usage: true } }
    : whole
  return parse(Buffer.from(JSON.stringify(asked)), { id, sessionKey: null, headers: [] }, limits)
}

async function runCall(router: Pick<Router, 'run'>, call: ParsedCall, context: JobContext): Promise<Answer> {
  const cut = new AbortController()
  const signal = AbortSignal.any([context.signal, cut.signal])
  const sink = new AnswerSink({
    path: call.path,
    stop: () => cut.abort(),
    onTokens: (tokens) => context.noteTokens(tokens),
  })
  try {
    await router.run(call, sink, signal)
  } catch (thrown) {
    // The sink's own reason is the better one: it has cut the call.
    throw sink.failure ?? thrown
  }
  return sink.read()
}

/** Takes whatever comes: a stream is folded, anything else collected. */
class AnswerSink implements Sink {
  readonly #path: string
  readonly #stop: () => void
  readonly #onTokens: (tokens: number) => void
  readonly #collected: CollectSink
  #fold: StreamFold | null = null
  #instance = ''
  #bytes = 0
  failure: ApiError | null = null

  constructor(parts: { path: string; stop: () => void; onTokens: (tokens: number) => void }) {
    this.#path = parts.path
    this.#stop = parts.stop
    this.#onTokens = parts.onTokens
    this.#collected = new CollectSink(() => this.#fail(tooLarge()))
  }

  head(head: AnswerHead): void {
    this.#instance = head.instance.id
    if (isEventStream(head.contentType)) this.#fold = new StreamFold(this.#path)
    this.#collected.head(head)
  }

  data(chunk: Buffer): boolean {
    if (this.failure) return true
    if (!this.#fold) return this.#collected.data(chunk)
    this.#bytes += chunk.length
    try {
      this.#fold.push(chunk)
      this.#onTokens(this.#fold.pieces)
    } catch (thrown) {
      this.#fail(toApiError(thrown))
    }
    // A token takes about two hundred bytes of a stream and four of the answer.
    if (this.#bytes > streamBytesMax) this.#fail(tooLarge())
    return true
  }

  end(): void {}

  /** Throws ApiError. */
  read(): Answer {
    if (this.failure) throw this.failure
    if (!this.#fold) return this.#collected.read()
    return { body: Buffer.from(JSON.stringify(this.#fold.finish())), instance: this.#instance }
  }

  #fail(error: ApiError): void {
    this.failure ??= error
    this.#stop()
  }
}

const streamBytesMax = 256 * 1024 * 1024

function parseAnswer(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'))
  } catch {
    throw fail('upstream_invalid', { message: 'The model instance answered something that is not JSON.' })
  }
}
