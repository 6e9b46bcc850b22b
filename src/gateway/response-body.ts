import type { FastifyRequest } from 'fastify'
import type { Fields } from '../router/calls/body.ts'
import { parseBody } from '../router/calls/body.ts'
import { toChatBody } from '../router/responses/chat-body.ts'
import type { Item } from '../router/responses/items.ts'
import { parseResponsesBody, type ResponsesRequest } from '../router/responses/request.ts'
import type { StoredResponses } from '../queue/responses/stored-responses.ts'
import type { GatewaySettings } from './parts.ts'

/** A request for a response, read and checked, with the conversation that it goes on from. */
export type AskedResponse = {
  tenant: string
  fields: Fields
  request: ResponsesRequest
  context: readonly Item[]
  /** The chat completion that answers it. */
  chatBody: Fields
  sessionKey: string | null
  /** A trace goes on to the instance. */
  headers: readonly string[]
}

/** Throws an ApiError that names the field at fault. */
export async function readResponseRequest(
  { headers, body, record }: FastifyRequest,
  parts: { responses: StoredResponses; settings: () => GatewaySettings },
): Promise<AskedResponse> {
  const { tenant } = record.caller
  const { jsonDepthMax, sessionHeader } = parts.settings()
  const fields = parseBody(Buffer.isBuffer(body) ? body : Buffer.alloc(0), jsonDepthMax)
  const request = parseResponsesBody(fields)
  const context = await parts.responses.conversation(tenant, request.previousResponseId)
  const session = headers[sessionHeader]
  const traces = ['traceparent', 'tracestate'].flatMap((name) => {
    const value = headers[name]
    return typeof value === 'string' ? [name, value] : []
  })
  return {
    tenant,
    fields,
    request,
    context,
    chatBody: toChatBody(request, context, { stream: request.stream }),
    sessionKey: typeof session === 'string' ? session : (request.user ?? request.promptCacheKey),
    headers: traces,
  }
}
