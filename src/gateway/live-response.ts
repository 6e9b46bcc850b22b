import type { FastifyReply, FastifyRequest } from 'fastify'
import { Cancellation } from '../core/cancellation.ts'
import type { Clock } from '../core/clock.ts'
import { fail, type ApiError } from '../core/errors.ts'
import type { StoredResponses } from '../queue/responses/stored-responses.ts'
import type { AnswerHead } from '../router/call.ts'
import type { Router } from '../router/router.ts'
import { ChatCall } from '../router/responses/chat-call.ts'
import { ChatSink, type ChatOutcome } from '../router/responses/chat-sink.ts'
import { formatPacked, packEvent } from '../router/responses/events.ts'
import {
  failResponse,
  toResponse,
  type ResponseIdentity,
  type ResponseObject,
} from '../router/responses/response.ts'
import { ResponseStream, toChunk, type ResponseEvent } from '../router/responses/stream.ts'
import { makeTaskId } from '../storage/task-id.ts'
import { listAnswerHeaders } from './answer-headers.ts'
import { EventStream } from './event-stream.ts'
import type { ApiParts } from './parts.ts'
import { explain } from './reply.ts'
import type { RequestRecord } from './request-record.ts'
import type { AskedResponse } from './response-body.ts'

export type LiveParts = Pick<ApiParts, 'clock' | 'log' | 'settings' | 'door'> & {
  router: Pick<Router, 'run' | 'resolve'>
  responses: StoredResponses
}

/** Chunks of the instance that may wait for their turn before it is asked to pause. */
const waitingMax = 8

/** Answers a request while its client waits: as JSON, or as a stream of events. */
export async function answerLive(
  parts: LiveParts,
  { asked, http, reply }: { asked: AskedResponse; http: FastifyRequest; reply: FastifyReply },
): Promise<unknown> {
  const { clock } = parts
  const nowMs = clock.wallMs()
  const identity = { id: makeTaskId('resp', nowMs), createdAtMs: nowMs }
  const answer = new LiveAnswer(parts, asked, identity, http)
  return asked.request.stream ? answer.stream(reply) : answer.whole(reply)
}

class LiveAnswer {
  readonly #parts: LiveParts
  readonly #asked: AskedResponse
  readonly #identity: ResponseIdentity
  readonly #http: FastifyRequest
  readonly #record: RequestRecord
  /** Aborted when the client is gone, or the answer is of no use. */
  readonly #cut = new Cancellation()
  #isAbandoned = false

  constructor(parts: LiveParts, asked: AskedResponse, identity: ResponseIdentity, http: FastifyRequest) {
    const { record } = http
    this.#http = http
    this.#parts = parts
    this.#asked = asked
    this.#identity = identity
    this.#record = record
    record.onAbandoned = () => {
      this.#isAbandoned = true
      this.#cut.abort()
    }
  }

  async whole(reply: FastifyReply): Promise<unknown> {
    const sink = new ChatSink({
      onHead: (head) => noteHead(this.#record, head, this.#parts.clock),
      onFailure: () => this.#cut.abort(),
    })
    const outcome = await this.#ask(sink)
    for (const [name, value] of pairsOf(sink.answered, this.#record)) reply.header(name, value)
    if (outcome.kind === 'refused') {
      return reply.code(outcome.status).type('application/json').send(outcome.body)
    }
    if (outcome.kind === 'streamed') throw fail('upstream_invalid')
    const response = toResponse(this.#asked.request, this.#identity, {
      chat: outcome.chat,
      completedAtMs: this.#parts.clock.wallMs(),
    })
    noteUsage(this.#record, response)
    await this.#keep(response)
    return reply.type('application/json').send(JSON.stringify(response))
  }

  async stream(reply: FastifyReply): Promise<unknown> {
    const { clock, settings } = this.#parts
    const translator = new ResponseStream({ request: this.#asked.request, identity: this.#identity })
    const events = new EventStream({ response: reply.raw, clock, stallMs: settings().stallMs })
    let isOpen = false
    let number = 0
    // One after another: a large text goes out in pieces, and nothing may come between them.
    let sent = Promise.resolve()
    let waiting = 0
    const format = (some: readonly ResponseEvent[]) =>
      some.map((event) => formatPacked(packEvent(event), number++)).join('')
    const sink = new ChatSink({
      onHead: (head) => {
        noteHead(this.#record, head, clock)
        isOpen = true
        reply.hijack()
        const headers = Object.fromEntries(pairsOf(head, this.#record))
        events.open(headers, format(translator.start()))
      },
      onChunks: (chunks, resume) => {
        this.#record.events += chunks.length
        const text = format(chunks.flatMap((chunk) => translator.push(chunk)))
        if (text === '') return true
        waiting += 1
        sent = sent.then(async () => {
          await events.send(text)
          waiting -= 1
        })
        if (waiting < waitingMax && !reply.raw.writableNeedDrain) return true
        void sent.then(resume)
        return false
      },
      onFailure: () => this.#cut.abort(),
    })
    try {
      const outcome = await this.#ask(sink)
      if (outcome.kind === 'refused') {
        for (const [name, value] of pairsOf(sink.answered, this.#record)) reply.header(name, value)
        return await reply.code(outcome.status).type('application/json').send(outcome.body)
      }
      const late = outcome.kind === 'whole' ? translator.push(toChunk(outcome.chat)) : []
      const rest = [...late, ...translator.finish(clock.wallMs())]
      const response = translator.response as ResponseObject
      noteUsage(this.#record, response)
      // What is told to be stored is stored: its reader may go on from it at once.
      const last = await this.#keep(response).then(
        () => rest.at(-1),
        (thrown: unknown) => this.#noteFailure(thrown, response),
      )
      await sent
      await events.end(format([...rest.slice(0, -1), last as ResponseEvent]))
    } catch (thrown) {
      if (!isOpen) throw thrown
      const error = explain(thrown, this.#record, this.#parts.log)
      if (this.#isAbandoned) return reply
      this.#record.error = error.code
      const last = translator.fail(error)
      if (translator.response) await this.#keep(translator.response).catch(() => {})
      await sent
      await events.end(format(last))
    }
    return reply
  }

  async #ask(sink: ChatSink): Promise<ChatOutcome> {
    const { chatBody: body, sessionKey, headers } = this.#asked
    const call = new ChatCall({ id: this.#record.id, body, sessionKey, headers })
    const { request } = this.#asked
    this.#record.promptEstimate = call.promptTokens
    call.ask = await this.#parts.door(
      this.#record,
      {
        model: call.model,
        resolved: this.#record.model,
        tier: request.serviceTier,
        tokens: call.promptTokens + call.answerTokens,
      },
      this.#http.headers,
    )
    if (this.#isAbandoned) throw fail('client_closed')
    try {
      await this.#parts.router.run(call, sink, this.#cut)
    } catch (thrown) {
      if (!this.#isAbandoned) sink.check()
      throw thrown
    }
    return sink.read()
  }

  async #keep(response: ResponseObject): Promise<void> {
    const { tenant, request, context } = this.#asked
    if (!request.store) return
    await this.#parts.responses.save(tenant, { response, context, input: request.input })
  }

  #noteFailure(thrown: unknown, response: ResponseObject): ResponseEvent {
    const error: ApiError = explain(thrown, this.#record, this.#parts.log)
    this.#record.error = error.code
    return { type: 'response.failed', response: failResponse(response, error) }
  }
}

function noteHead(record: RequestRecord, head: AnswerHead, clock: Clock): void {
  record.model = head.model
  record.instance = head.instance.id
  record.attempts = head.attempts
  record.ttftMs = clock.now() - record.startedAtMs
}

function noteUsage(record: RequestRecord, { usage }: ResponseObject): void {
  if (!usage) return
  record.promptTokens = usage.input_tokens
  record.completionTokens = usage.output_tokens
  record.cachedTokens = usage.input_tokens_details.cached_tokens
}

function pairsOf(head: AnswerHead | null, record: RequestRecord): [name: string, value: string][] {
  const list = head === null ? [] : listAnswerHeaders(head, record)
  return list.flatMap((name, at) => (at % 2 === 0 ? [[name, list[at + 1] ?? ''] as [string, string]] : []))
}
