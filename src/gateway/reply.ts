import type { IncomingMessage, ServerResponse } from 'node:http'
import { fail, toApiError, toErrorBody, type ApiError } from '../core/errors.ts'
import { StoreUnavailable } from '../storage/store.ts'
import type { Logger } from '../telemetry/log.ts'
import { appendRateHeaders } from './limits/rate-headers.ts'
import { LimitRefusal } from './limits/refusal.ts'
import type { RequestRecord } from './request-record.ts'

/** How long a caller is asked to wait while the storage is away. */
const storageRetryAfterMs = 2_000

/** What was thrown, as the caller sees it. A fault of this server is logged here, with all that is known of it. */
export function explain(thrown: unknown, record: { id: string }, log: Logger): ApiError {
  const error = toApiError(thrown)
  if (error.code === 'internal' && error.cause instanceof StoreUnavailable) {
    return fail('storage_unavailable', { retryAfterMs: storageRetryAfterMs, cause: error.cause })
  }
  if (error.code === 'internal') log.error({ err: thrown, requestId: record.id }, 'request failed')
  return error
}

/** Answers a request with an error, and notes it. */
export function refuse(response: ServerResponse, record: RequestRecord, error: ApiError): void {
  record.error = error.code
  record.status = error.status
  replyWithError(response, error, record)
}

/** Writes an error as a whole answer, in OpenAI's shape. Does nothing when the client is gone. */
export function replyWithError(
  response: ServerResponse,
  error: ApiError,
  { id, pass }: Pick<RequestRecord, 'id' | 'pass'>,
): void {
  if (response.destroyed || response.headersSent) return
  const body = Buffer.from(JSON.stringify(toErrorBody(error)))
  const isSending = hasMuchToCome(response.req)
  const headers = [
    ...['content-type', 'application/json; charset=utf-8', 'content-length', String(body.length)],
    ...['x-request-id', id],
    ...(error.retryAfterMs === null ? [] : ['retry-after', String(Math.ceil(error.retryAfterMs / 1000))]),
    ...(error.headers === null ? [] : Object.entries(error.headers).flat()),
    // A body that was not read would be taken for the next request.
    ...(closesConnection.has(error.code) || isSending ? ['connection', 'close'] : []),
  ]
  const rates = error instanceof LimitRefusal ? error.rates : (pass?.rates ?? null)
  if (rates !== null) appendRateHeaders(headers, rates)
  response.writeHead(error.status, headers)
  if (isSending) endLater(response, body)
  else response.end(body)
}

/** What still comes of a refused request is read and dropped up to this size; of more, the connection is closed. */
const droppedBytesMax = 65_536
/** So much more is read before that, for a connection is reset when it is closed under its sender's hands. */
const lingerBytesMax = 1_048_576

function hasMuchToCome({ complete, headers }: IncomingMessage): boolean {
  if (complete) return false
  return (
    headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > droppedBytesMax
  )
}

/**
 * Sends a whole answer to a client that still sends, and gives it the time to read it: a reset would take the answer
 * with it. It ends with the request, after so many bytes, or with the time limit of a request.
 */
function endLater(response: ServerResponse, body: Buffer): void {
  const { req: request } = response
  const end = () => void response.end()
  let bytes = 0
  response.write(body)
  request.removeAllListeners('data')
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > lingerBytesMax) end()
  })
  request.once('end', end).once('close', end).resume()
}

const closesConnection = new Set<string>(['body_too_large', 'request_timeout', 'shutting_down'])
