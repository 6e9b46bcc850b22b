import type { ServerResponse } from 'node:http'
import { fail, toApiError, toErrorBody, type ApiError } from '../core/errors.ts'
import { StoreUnavailable } from '../storage/store.ts'
import type { Logger } from '../telemetry/log.ts'
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
  replyWithError(response, error, record.id)
}

/** Writes an error as a whole answer, in OpenAI's shape. Does nothing when the client is gone. */
export function replyWithError(response: ServerResponse, error: ApiError, requestId: string): void {
  if (response.destroyed || response.headersSent) return
  const body = Buffer.from(JSON.stringify(toErrorBody(error)))
  const headers = [
    ...['content-type', 'application/json; charset=utf-8', 'content-length', String(body.length)],
    ...['x-request-id', requestId],
    ...(error.retryAfterMs === null ? [] : ['retry-after', String(Math.ceil(error.retryAfterMs / 1000))]),
    // A body that was not read would be taken for the next request.
    ...(closesConnection.has(error.code) ? ['connection', 'close'] : []),
  ]
  response.writeHead(error.status, headers)
  response.end(body)
}

const closesConnection = new Set<string>(['body_too_large', 'request_timeout', 'shutting_down'])
