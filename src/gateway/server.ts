import {
  createServer,
  STATUS_CODES,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import Fastify, { type FastifyError, type FastifyInstance, type onRequestHookHandler } from 'fastify'
import type { Clock } from '../core/clock.ts'
import { ApiError, fail, SetupError, toApiError, toErrorBody } from '../core/errors.ts'
import { makeId } from '../core/ids.ts'
import type { Service } from '../core/service.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Api } from './api.ts'
import { explain, refuse, replyWithError } from './reply.ts'
import type { RequestBook } from './request-book.ts'
import type { RequestRecord } from './request-record.ts'
import { addDocsRoutes } from './routes/docs.ts'
import { addHealthRoutes } from './routes/health.ts'
import { addMetricsRoute } from './routes/metrics.ts'
import type { DirectHandler } from './routes/model-calls.ts'
import type { GatewayParts } from './parts.ts'

declare module 'fastify' {
  interface FastifyRequest {
    record: RequestRecord
  }
}

export type ServerLimits = {
  host: string
  port: number
  bodyBytesMax: number
  headersTimeoutMs: number
  requestTimeoutMs: number
  keepAliveTimeoutMs: number
  drainTimeoutMs: number
}

/** How often connections that are too slow are looked for. */
const slowCheckMs = 500
/** The page at /docs loads nothing from elsewhere and talks to this server alone. */
const docsPolicy =
  "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
const requestIdPattern = /^[\w.:-]{1,128}$/

/** The HTTP server: takes requests, gives each an id and a record, hands them to the routes, and drains at the end. */
export class GatewayServer implements Service {
  readonly name = 'gateway'
  readonly #limits: ServerLimits
  readonly #clock: Clock
  readonly #log: Logger
  readonly #book: RequestBook
  readonly #parts: GatewayParts
  readonly #api: Api
  #app: FastifyInstance | null = null
  /** Requests that have no complete answer yet, by their socket. */
  readonly #asked = new WeakMap<Socket, IncomingMessage>()
  #draining = false

  constructor(parts: GatewayParts & { limits: ServerLimits; book: RequestBook; api: Api }) {
    this.#api = parts.api
    this.#limits = parts.limits
    this.#clock = parts.clock
    this.#log = parts.log
    this.#book = parts.book
    this.#parts = parts
  }

  /** `http://127.0.0.1:8080`; only while it listens. */
  get url(): string {
    const address = this.#app?.server.address() as AddressInfo | null | undefined
    const { host } = this.#limits
    return `http://${host.includes(':') ? `[${host}]` : host}:${address?.port ?? this.#limits.port}`
  }

  /** Listens; throws a SetupError when the address can't be had. */
  async start(): Promise<void> {
    const app = await this.#build()
    this.#app = app
    const { host, port } = this.#limits
    try {
      await app.listen({ host, port })
    } catch (error) {
      throw explainListenError(error as NodeJS.ErrnoException, host, port)
    }
  }

  /** Refuses new requests, lets those in flight finish up to `drainTimeoutMs`, then cuts what is left. */
  async stop(): Promise<void> {
    const app = this.#app
    if (!app || this.#draining) return
    this.#draining = true
    // Connections that fall idle during the drain would otherwise stay until their keep-alive ends.
    const stopSweeping = this.#clock.every(20, () => app.server.closeIdleConnections())
    const cancelCut = this.#clock.after(this.#limits.drainTimeoutMs, () => app.server.closeAllConnections())
    await app.close()
    this.#app = null
    cancelCut()
    stopSweeping()
  }

  /** Cuts every connection at once. */
  cut(): void {
    this.#app?.server.closeAllConnections()
  }

  async #build(): Promise<FastifyInstance> {
    const limits = this.#limits
    const { calls } = this.#api
    const app = Fastify({
      bodyLimit: limits.bodyBytesMax,
      serverFactory: (handler) => this.#listenWith(calls, handler),
      forceCloseConnections: 'idle',
      return503OnClosing: false,
      routerOptions: { maxParamLength: 512 },
      genReqId: chooseId,
      // A whole request waits for its answer on this socket: another answer must not be taken for it.
      clientErrorHandler: (error, socket) =>
        this.#asked.get(socket)?.complete ? socket.destroy() : answerBrokenRequest(error, socket),
      frameworkErrors: (error, request, reply) => {
        replyWithError(reply.raw, translateError(error), request.id)
      },
    })
    // Bodies stay bytes: each route reads from them what it needs and forwards them as they came.
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) =>
      done(null, body),
    )
    app.setValidatorCompiler(() => () => true)
    app.setSerializerCompiler(() => (data) => JSON.stringify(data))

    app.decorateRequest('record', null as never)
    // Answers that a route writes itself carry the id already.
    app.addHook('onSend', (request, reply, payload, done) => {
      reply.header('x-request-id', request.id)
      done(null, payload)
    })
    app.setErrorHandler((thrown: FastifyError, request, reply) => {
      request.record ??= this.#open(request.raw, reply.raw, request.id, 'unmatched')
      reply.hijack()
      refuse(reply.raw, request.record, explain(translateError(thrown), request, this.#log))
    })

    const routes: { url: string; pattern: RegExp; methods: string[] }[] = []
    app.addHook('onRoute', (route) => {
      // The route knows its own pattern: asking each request for it would build an object every time.
      const open: onRequestHookHandler = (request, reply, done) => {
        request.record = this.#open(request.raw, reply.raw, request.id, route.url)
        done(this.#draining ? fail('shutting_down', { retryAfterMs: 1_000 }) : undefined)
      }
      route.onRequest = [open, ...[route.onRequest ?? []].flat()]
      const pattern = new RegExp(`^${route.url.replaceAll(/:\w+/g, '[^/]+').replaceAll('*', '.*')}$`)
      routes.push({ url: route.url, pattern, methods: [route.method].flat() })
    })
    app.setNotFoundHandler((request, reply) => {
      const path = request.url.split('?')[0] ?? ''
      const methods = new Set(
        routes.filter(({ pattern }) => pattern.test(path)).flatMap((route) => route.methods),
      )
      if (methods.size === 0) {
        throw fail('not_found', {
          message: `There is no route ${request.method} ${request.url.slice(0, 200)}.`,
        })
      }
      const allow = [...methods].join(', ')
      reply.raw.setHeader('allow', allow)
      throw fail('method_not_allowed', {
        message: `${request.method} is not allowed here; allowed: ${allow}.`,
      })
    })

    await app.register(swagger, {
      openapi: {
        openapi: '3.1.0',
        info: {
          title: 'Open-AutoGLM',
          description: 'An OpenAI-compatible API over a fleet of model instances.',
          version: this.#parts.version,
        },
      },
    })
    await app.register(swaggerUi, { routePrefix: '/docs', staticCSP: docsPolicy })
    this.#api.addRoutes(app)
    addHealthRoutes(app, this.#parts, () => this.#draining)
    addMetricsRoute(app, this.#parts)
    addDocsRoutes(app)
    return app
  }

  /** The server behind Fastify. Model calls, which are nearly all requests, do not go through it. */
  #listenWith(calls: ReadonlyMap<string, DirectHandler>, handleOther: RequestListener): Server {
    const limits = this.#limits
    const options = {
      requestTimeout: limits.requestTimeoutMs,
      headersTimeout: Math.min(limits.headersTimeoutMs, limits.requestTimeoutMs),
      keepAliveTimeout: limits.keepAliveTimeoutMs,
      connectionsCheckingInterval: slowCheckMs,
      insecureHTTPParser: false,
    }
    return createServer(options, (request, response) => {
      const path = request.url?.split('?', 1)[0] ?? ''
      const call = request.method === 'POST' ? calls.get(path) : undefined
      if (!call) return handleOther(request, response)
      const record = this.#open(request, response, chooseId(request), path)
      if (this.#draining) refuse(response, record, fail('shutting_down', { retryAfterMs: 1_000 }))
      else call(request, response, record)
    })
  }

  /** Opens the record of a request; it is closed with the answer. */
  #open(request: IncomingMessage, response: ServerResponse, id: string, endpoint: string): RequestRecord {
    const record = this.#book.open(id, request.method ?? 'GET', endpoint)
    const { socket } = request
    this.#asked.set(socket, request)
    response.on('close', () => {
      this.#asked.delete(socket)
      // With an error noted, it was the server that gave up, and not the client.
      if (!response.writableFinished && record.error === null) {
        record.status = 499
        record.error = 'client_closed'
        record.onAbandoned?.()
      }
      // Whoever answers sets the status; a plain route leaves it to Fastify.
      if (record.status === 0) record.status = response.statusCode
      this.#book.close(record)
    })
    return record
  }
}

/** The caller's own id where it is fit to be written into a log, else a new one. */
function chooseId(request: IncomingMessage): string {
  const given = request.headers['x-request-id']
  return typeof given === 'string' && requestIdPattern.test(given) ? given : makeId('req')
}

/** What Fastify and Node complain about, in the words of our own table. */
function translateError(error: FastifyError): ApiError {
  if (error instanceof ApiError) return error
  if (error.code === 'FST_ERR_CTP_BODY_TOO_LARGE') return fail('body_too_large')
  if (error.code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') {
    return fail('unsupported_media_type', {
      message: 'Send the body as JSON, with `content-type: application/json`.',
    })
  }
  if (error.code?.startsWith('FST_ERR_CTP_')) return fail('invalid_json', { message: error.message })
  if (error.statusCode !== undefined && error.statusCode >= 400 && error.statusCode < 500) {
    return fail('invalid_request', { message: error.message })
  }
  return toApiError(error)
}

/** Answers what is not even a request: no record, no route, only a socket. */
function answerBrokenRequest(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
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

function explainListenError(error: NodeJS.ErrnoException, host: string, port: number): Error {
  if (error.code === 'EADDRINUSE') {
    return new SetupError(
      `Port ${port} on ${host} is in use. Stop the program that holds it, or choose another with --port ${port + 1}.`,
    )
  }
  if (error.code === 'EACCES')
    return new SetupError(`Port ${port} needs more rights; choose one above 1023 with --port.`)
  if (error.code === 'EADDRNOTAVAIL' || error.code === 'ENOTFOUND') {
    return new SetupError(`This machine has no address ${host}; choose one of its own with --host.`)
  }
  return error
}
