import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https'
import type { Socket } from 'node:net'
import type { SecureContextOptions } from 'node:tls'
import { answerBrokenRequest } from './broken-request.ts'
import { allowOrigin } from './cors.ts'
import { Incoming } from './incoming.ts'
import { headersMax } from './request-head.ts'
import type { TlsSettings } from './tls-files.ts'

export type ListenerLimits = {
  headersTimeoutMs: number
  requestTimeoutMs: number
  keepAliveTimeoutMs: number
  /** Whose pages may call from a browser. */
  corsOrigins: readonly string[]
  tls: TlsSettings
}

/** How often connections that are too slow are looked for. */
const slowCheckMs = 500

/**
 * Node's server with the limits of ours: a strict parser, slow senders cut off, HTTPS where there are `files`, and
 * browsers' questions about foreign pages answered. What is left is a request, and goes to `handle`.
 */
export function makeListener(parts: {
  limits: ListenerLimits
  files: SecureContextOptions | null
  handle: (request: IncomingMessage, response: ServerResponse) => void
}): Server | TlsServer {
  const { limits, files, handle } = parts
  const { tls, corsOrigins } = limits
  const options = {
    IncomingMessage: Incoming,
    requestTimeout: limits.requestTimeoutMs,
    headersTimeout: Math.min(limits.headersTimeoutMs, limits.requestTimeoutMs),
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    connectionsCheckingInterval: slowCheckMs,
    insecureHTTPParser: false,
    // Missing, it is refused by `handle`, in our own words.
    requireHostHeader: false,
  }
  const listener =
    corsOrigins.length === 0
      ? handle
      : (request: IncomingMessage, response: ServerResponse) => {
          if (!allowOrigin(request, response, corsOrigins)) handle(request, response)
        }
  const asksForClient = tls.clientCaFile !== ''
  const server = files
    ? createTlsServer(
        {
          ...{ ...options, ...files },
          // To Node a client is none before it has shaken hands: the other limits do not count for it yet.
          handshakeTimeout: options.headersTimeout,
          requestCert: asksForClient,
          rejectUnauthorized: asksForClient && tls.clientCert === 'require',
        },
        listener,
      )
    : createServer(options, listener)
  // Some versions of Node leave out what is more: one is let through, so that `handle` sees that there were too many.
  server.maxHeadersCount = headersMax + 1
  server.on('checkExpectation', listener)
  server.on('checkContinue', listener)
  // Nobody is connected to anything else through this server.
  server.on('connect', (_request, socket: Socket) => answerBrokenRequest(new Error('CONNECT'), socket))
  return server
}
