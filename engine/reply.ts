import type { ServerResponse } from 'node:http'
import { type ApiError, toApiError, toErrorBody } from '../src/core/errors.ts'

export type Usage = {
  prompt_tokens: number
  completion_tokens: number
  total_tokens: number
  prompt_tokens_details: { cached_tokens: number }
}

export function makeUsage(tokens: { prompt: number; generated: number; cached: number }): Usage {
  return {
    prompt_tokens: tokens.prompt,
    completion_tokens: tokens.generated,
    total_tokens: tokens.prompt + tokens.generated,
    prompt_tokens_details: { cached_tokens: tokens.cached },
  }
}

export function sendJson(response: ServerResponse, status: number, body: unknown): void {
  sendBody(response, { status, type: 'application/json; charset=utf-8', body: JSON.stringify(body) })
}

/** Head, body and end leave as one packet: apart, they could wait for each other's acknowledgement. */
export function sendBody(
  response: ServerResponse,
  reply: { status: number; type: string; body: string },
): void {
  const bytes = Buffer.from(reply.body)
  response.writeHead(reply.status, { 'content-type': reply.type, 'content-length': bytes.length })
  response.end(bytes)
}

/** The error as a reply, or, where the head has left already, as the last event of the stream. */
export function sendError(response: ServerResponse, thrown: unknown): ApiError {
  const error = toApiError(thrown)
  const body = toErrorBody(error)
  if (response.destroyed || response.writableEnded) return error
  if (response.headersSent) {
    response.end(`data: ${JSON.stringify(body)}\n\n`)
    return error
  }
  if (error.retryAfterMs !== null) {
    response.setHeader('retry-after', String(Math.max(1, Math.ceil(error.retryAfterMs / 1000))))
  }
  sendJson(response, error.status, body)
  return error
}

const streamHead = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache',
  'x-accel-buffering': 'no',
} as const

/** What a caller who reads too slowly may leave in memory; then the connection is given up. */
export const unsentBytesMax = 16_777_216

/** A stream of server-sent events whose head leaves with the first of them. */
export class EventStream {
  readonly #response: ServerResponse

  constructor(response: ServerResponse) {
    this.#response = response
  }

  /** `json` is a complete JSON text. */
  write(json: string): void {
    // Other replies of the same request may come after one has failed, or the caller has left.
    if (this.#response.writableEnded || this.#response.destroyed) return
    if (!this.#response.headersSent) this.#response.writeHead(200, streamHead)
    this.#response.write(`data: ${json}\n\n`)
    if (this.#response.writableLength > unsentBytesMax) this.#response.destroy()
  }

  end(): void {
    this.#response.end('data: [DONE]\n\n')
  }
}
