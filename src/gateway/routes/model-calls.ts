import type { FastifyInstance } from 'fastify'
import { fail, toApiError } from '../../core/errors.ts'
import { compileParser, modelRoutes } from '../completion-call.ts'
import type { GatewayParts } from '../parts.ts'
import { Relay } from '../relay.ts'
import type { RequestBook } from '../request-book.ts'
import { ErrorReply } from '../schemas.ts'

const noBody = Buffer.alloc(0)
/** Client headers that go along to the instance: a trace goes on, everything else ends here. */
const forwardedHeaders = ['traceparent', 'tracestate'] as const

/** `POST /v1/completions`, `/v1/chat/completions`, `/v1/embeddings`: from a client to an instance and back. */
export function addModelCallRoutes(app: FastifyInstance, parts: GatewayParts, book: RequestBook): void {
  const { router, clock, settings } = parts
  for (const route of modelRoutes) {
    const parseCall = compileParser(route)
    const schema = {
      summary: route.summary,
      tags: ['models'],
      body: route.schema,
      response: { '4xx': ErrorReply, '5xx': ErrorReply },
    }
    app.post(`/v1${route.path}`, { schema }, (request, reply) => {
      const { record } = request
      const { jsonDepthMax, sessionHeader, stallMs, logsPrompts } = settings()
      if ((request.headers['content-encoding'] ?? 'identity') !== 'identity') {
        throw fail('unsupported_media_type', {
          message: 'Send the body as it is, without a content-encoding.',
        })
      }
      const headers = readForwardedHeaders(request.headers)
      const session = request.headers[sessionHeader]
      const sessionKey = typeof session === 'string' ? session : null
      const body = Buffer.isBuffer(request.body) ? request.body : noBody
      const call = parseCall(body, { id: request.id, sessionKey, headers }, { jsonDepthMax })
      record.model = router.resolve(call.model)
      record.stream = call.stream
      if (logsPrompts) record.prompt = call.promptText()

      // From here on the answer is the relay's to write.
      reply.hijack()
      const response = reply.raw
      const client = new AbortController()
      const relay = new Relay({ response, record, book, clock, hidesUsage: call.hidesUsage, stallMs })
      record.onAbandoned = () => client.abort()
      router.run(call, relay, client.signal).catch((thrown: unknown) => {
        const error = toApiError(thrown)
        if (error.code === 'internal')
          parts.log.error({ err: thrown, requestId: request.id }, 'request failed')
        relay.fail(client.signal.aborted ? fail('client_closed') : error)
      })
    })
  }
}

const noHeaders: readonly string[] = []

function readForwardedHeaders(headers: Record<string, string | string[] | undefined>): readonly string[] {
  let found: string[] | null = null
  for (const name of forwardedHeaders) {
    const value = headers[name]
    if (typeof value === 'string') (found ??= []).push(name, value)
  }
  return found ?? noHeaders
}
