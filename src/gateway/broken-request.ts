import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import { fail, toErrorBody, type ApiError } from '../core/errors.ts'

/** Codes of Node's HTTP parser and its time limits; an error of our own has none. */
const httpCode = /^(HPE|ERR_HTTP)_/

/**
 * Answers what is not even a request: no record, no route, only a socket. Where the connection itself failed, or has
 * not come as far as HTTP (an answer would wait for a TLS handshake that never ends), it is closed.
 */
export function answerBrokenRequest(error: Error & { code?: string }, socket: Socket): void {
  if (!socket.writable || (error.code !== undefined && !httpCode.test(error.code))) {
    socket.destroy()
    return
  }
  const known: Record<string, ApiError> = {
    ERR_HTTP_REQUEST_TIMEOUT: fail('request_timeout'),
    HPE_HEADER_OVERFLOW: fail('headers_too_large'),
  }
  const answer =
    known[error.code ?? ''] ?? fail('invalid_request', { message: 'This is not a valid HTTP request.' })
  const body = JSON.stringify(toErrorBody(answer))
  const head = [
    `HTTP/1.1 ${answer.status} ${STATUS_CODES[answer.status]}`,
    'content-type: application/json; charset=utf-8',
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
}
