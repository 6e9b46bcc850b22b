import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyInstance } from 'fastify'
import { Cancellation } from '../../core/cancellation.ts'
import { fail } from '../../core/errors.ts'
import type { Ask } from '../../router/call.ts'
import {
  compileParser,
  modelRoutes,
  type ModelRoute,
  type ParsedCall,
} from '../../router/calls/completion-call.ts'
import type { ApiParts } from '../parts.ts'
import { Relay } from '../relay.ts'
import { explain, refuse } from '../reply.ts'
import { readBody } from '../request-body.ts'
import type { RequestBook } from '../request-book.ts'
import type { RequestRecord } from '../request-record.ts'
import { ResponseCache } from '../response-cache.ts'
import { ErrorReply } from '../schemas.ts'

/** Client headers that go along to the instance: a trace goes on, everything else ends here. */
const forwardedHeaders = ['traceparent', 'tracestate'] as const

type CallParts = Pick<ApiParts, 'registry' | 'router' | 'cache' | 'clock' | 'log' | 'settings' | 'door'>

/** Answers one request, from its head to the end of the answer, on Node's own objects. */
export type DirectHandler = (
  request: IncomingMessage,
  response: ServerResponse,
  record: RequestRecord,
) => void

/** `POST /v1/completions`, `/v1/chat/completions`, `/v1/embeddings`: from a client to an instance and back, by path. */
export function makeModelCalls(
  parts: CallParts,
  book: RequestBook,
  limits: { bodyBytesMax: number },
): ReadonlyMap<string, DirectHandler> {
  const { cache, router, registry } = parts
  const shared = { book, responses: new ResponseCache({ cache, router, registry }) }
  return new Map(
    modelRoutes.map((route) => [`/v1${route.path}`, makeModelCall(route, parts, shared, limits)]),
  )
}

function makeModelCall(
  route: ModelRoute,
  parts: CallParts,
  { book, responses }: { book: RequestBook; responses: ResponseCache },
  limits: { bodyBytesMax: number },
): DirectHandler {
  const { router, clock, settings, log, door } = parts
  const parseCall = compileParser(route)

  /** Reads the call, asks whether it may be had, and brings its answer. */
  function answer(
    request: IncomingMessage,
    response: ServerResponse,
    record: RequestRecord,
    body: Buffer,
  ): void {
    const { jsonDepthMax, sessionHeader, logsPrompts } = settings()
    const headers = readForwardedHeaders(request.headers)
    const session = request.headers[sessionHeader]
    const sessionKey = typeof session === 'string' ? session : null
    const call = parseCall(body, { id: record.id, sessionKey, headers }, { jsonDepthMax })
    record.model = router.resolve(call.model)
    record.stream = call.stream
    record.cache = 'bypass'
    if (logsPrompts) record.prompt = call.promptText()

    record.promptEstimate = call.promptTokens
    const tokens = call.promptTokens + call.estimateAnswerTokens()
    const entered = door(
      record,
      { model: call.model, resolved: record.model, tier: call.serviceTier, tokens },
      request.headers,
    )
    const run = (ask: Ask) => {
      call.ask = ask
      // The client may have gone while the limits were asked.
      if (!record.done) bring(call, request, response, record)
    }
    if (!(entered instanceof Promise)) return run(entered)
    entered.then(run).catch((thrown: unknown) => turnAway(response, record, thrown))
  }

  function turnAway(response: ServerResponse, record: RequestRecord, thrown: unknown): void {
    refuse(response, record, explain(thrown, record, log))
  }

  function bring(
    call: ParsedCall,
    request: IncomingMessage,
    response: ServerResponse,
    record: RequestRecord,
  ): void {
    const plan = responses.plan(call, {
      ...{ headers: request.headers, tenant: record.caller.tenant, model: record.model },
    })
    // Others may join it and take the answer: how long they wait is not this caller's matter.
    if (plan) call.ask = { ...call.ask, deadlineMs: null }
    const client = new Cancellation()
    const { stallMs } = settings()
    const relay = new Relay({ response, record, book, clock, hidesUsage: call.hidesUsage, stallMs })
    record.onAbandoned = () => client.abort()
    const answered = plan
      ? responses.answer(call, plan, { sink: relay, record, signal: client })
      : router.run(call, relay, client)
    answered.catch((thrown: unknown) => {
      relay.fail(client.aborted ? fail('client_closed') : explain(thrown, record, log))
    })
  }

  return (request, response, record) => {
    readBody(request, limits.bodyBytesMax, (error, body) => {
      try {
        if (error) throw error
        answer(request, response, record, body)
      } catch (thrown) {
        turnAway(response, record, thrown)
      }
    })
  }
}

/**
 * Enters the model calls into the table of routes, where the documents and the answers to a wrong method come from.
 * The server takes their requests past Fastify; what it does not know by its spelling (`/v1/%63ompletions`) comes here.
 */
export function addModelCallRoutes(app: FastifyInstance, calls: ReadonlyMap<string, DirectHandler>): void {
  app.register((scope, _options, done) => {
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', (_request, _payload, parsed) => parsed(null))
    for (const route of modelRoutes) {
      const url = `/v1${route.path}`
      const schema = {
        summary: route.summary,
        tags: ['models'],
        body: route.schema,
        response: { '4xx': ErrorReply, '5xx': ErrorReply },
      }
      scope.post(url, { schema }, (request, reply) => {
        reply.hijack()
        calls.get(url)?.(request.raw, reply.raw, request.record)
      })
    }
    done()
  })
}

const noHeaders: readonly string[] = []

function readForwardedHeaders(headers: IncomingMessage['headers']): readonly string[] {
  let found: string[] | null = null
  for (const name of forwardedHeaders) {
    const value = headers[name]
    if (typeof value === 'string') (found ??= []).push(name, value)
  }
  return found ?? noHeaders
}
