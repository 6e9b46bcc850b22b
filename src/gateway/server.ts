import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import type { Server as TlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { SecureContextOptions } from 'node:tls'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import Fastify, { type FastifyError, type FastifyInstance, type onRequestHookHandler } from 'fastify'
import type { Clock } from '../core/clock.ts'
import { fail, SetupError } from '../core/errors.ts'
import { makeId } from '../core/ids.ts'
import type { Service } from '../core/service.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Api } from './api.ts'
import { accessOf, requireAccess, type Access } from './auth/access.ts'
import type { Caller, Gate } from './auth/caller.ts'
import { answerBrokenRequest } from './broken-request.ts'
import { makeListener, type ListenerLimits } from './listener.ts'
import { translateError } from './framework-errors.ts'
import { judgeHead } from './request-head.ts'
import { RouteTable } from './route-table.ts'
import { explain, refuse, replyWithError } from './reply.ts'
import type { RequestBook } from './request-book.ts'
import type { RequestRecord } from './request-record.ts'
import { addDocsRoutes } from './routes/docs.ts'
import { addHealthRoutes } from './routes/health.ts'
import { addMetricsRoute } from './routes/metrics.ts'
import type { GatewayParts } from './parts.ts'
import { readTlsFiles, watchTlsFiles } from './tls-files.ts'

declare module 'fastify' {
  interface FastifyRequest {
    record: RequestRecord
  }
}

export type ServerLimits = ListenerLimits & {
  host: string
  port: number
  bodyBytesMax: number
  drainTimeoutMs: number
}

/** The page at /docs loads nothing from elsewhere and talks to this server alone. */
const docsPolicy =
  "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
const noError = () => undefined
/** All of them ask for the same. */
const callAccess = accessOf('POST', '/v1/chat/completions')
/** No other page may hold ours in a frame, guess at its type or learn its address. */
const pageHeaders = {
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
}
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
  readonly #gate: Gate
  #app: FastifyInstance | null = null
  /** For each connection the answer that is not complete yet. */
  readonly #asked = new WeakMap<Socket, { answer: ServerResponse | null }>()
  #draining = false
  #stopWatching = () => {}

  constructor(parts: GatewayParts & { limits: ServerLimits; book: RequestBook; api: Api; gate: Gate }) {
    this.#api = parts.api
    this.#gate = parts.gate
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
    const scheme = this.#limits.tls.certFile === '' ? 'http' : 'https'
    return `${scheme}://${host.includes(':') ? `[${host}]` : host}:${address?.port ?? this.#limits.port}`
  }

  /** Listens; throws a SetupError when the address can't be had. */
  async start(): Promise<void> {
    const { host, port, tls } = this.#limits
    const files = tls.certFile === '' ? null : await readTlsFiles(tls)
    const app = await this.#build(files)
    this.#app = app
    if (files) {
      const server = app.server as unknown as TlsServer
      const onChange = (next: SecureContextOptions) => server.setSecureContext(next)
      this.#stopWatching = watchTlsFiles(tls, files, { clock: this.#clock, log: this.#log, onChange })
    }
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
    this.#stopWatching()
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

  async #build(files: SecureContextOptions | null): Promise<FastifyInstance> {
    const limits = this.#limits
    const app = Fastify({
      bodyLimit: limits.bodyBytesMax,
      serverFactory: (handler) =>
        makeListener({
          limits,
          files,
          handle: (request, response) => this.#dispatch(request, response, handler),
        }),
      forceCloseConnections: 'idle',
      return503OnClosing: false,
      routerOptions: { maxParamLength: 512 },
      genReqId: chooseId,
      // A whole request waits for its answer on this socket, or a part of one has it: another must not follow.
      clientErrorHandler: (error, socket) => {
        const answer = this.#asked.get(socket)?.answer
        if (answer?.req.complete) socket.destroy()
        else if (answer?.headersSent) socket.destroySoon()
        else answerBrokenRequest(error, socket)
      },
      frameworkErrors: (error, request, reply) => {
        replyWithError(reply.raw, translateError(error), { id: request.id, pass: null })
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
      if (String(reply.getHeader('content-type')).startsWith('text/html')) reply.headers(pageHeaders)
      done(null, payload)
    })
    app.setErrorHandler((thrown: FastifyError, request, reply) => {
      request.record ??= this.#open(request.raw, reply.raw, request.id, 'unmatched')
      reply.hijack()
      refuse(reply.raw, request.record, explain(translateError(thrown), request, this.#log))
    })

    const table = new RouteTable()
    app.addHook('onRoute', (route) => {
      const [access] = [route.method].flat().map((method) => accessOf(method, route.url)) as [Access]
      // The route knows its own pattern: asking each request for it would build an object every time.
      const open: onRequestHookHandler = (request, reply, done) => {
        request.record = this.#open(request.raw, reply.raw, request.id, route.url)
        this.#enter(request.raw, request.record, access, (error) => {
          if (!error) askForBody(request.raw, reply.raw)
          done(error)
        })
      }
      route.onRequest = [open, ...[route.onRequest ?? []].flat()]
      if (route.schema && access === 'public') route.schema = { ...route.schema, security: [] }
      table.add(route)
    })
    // Refused at once: a body that nobody wants is not collected first.
    app.addHook('onRequest', (request, reply, done) =>
      request.is404 ? done(table.refuse(request, reply.raw)) : done(),
    )
    app.setNotFoundHandler((request, reply) => {
      throw table.refuse(request, reply.raw)
    })

    await app.register(swagger, {
      openapi: {
        openapi: '3.1.0',
        info: {
          title: 'Open-AutoGLM',
          description: 'An OpenAI-compatible API over a fleet of model instances.',
          version: this.#parts.version,
        },
        components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } } },
        security: [{ bearer: [] }],
      },
    })
    await app.register(swaggerUi, { routePrefix: '/docs', staticCSP: docsPolicy })
    this.#api.addRoutes(app)
    addHealthRoutes(app, {
      ...this.#parts,
      isDraining: () => this.#draining,
      maySeeAll: ({ raw }) => this.#isAdmin(raw),
    })
    addMetricsRoute(app, this.#parts)
    addDocsRoutes(app)
    return app
  }

  /** Model calls, which are nearly all requests, do not go through Fastify. */
  #dispatch(request: IncomingMessage, response: ServerResponse, handleOther: RequestListener): void {
    const problem = judgeHead(request)
    const path = request.url?.split('?', 1)[0] ?? ''
    const call = request.method === 'POST' ? this.#api.calls.get(path) : undefined
    if (!call && !problem) return handleOther(request, response)
    const record = this.#open(request, response, chooseId(request), call ? path : 'unmatched')
    if (problem || !call) return refuse(response, record, problem ?? fail('internal'))
    this.#enter(request, record, callAccess, (error) => {
      if (error) refuse(response, record, explain(error, record, this.#log))
      else {
        askForBody(request, response)
        call(request, response, record)
      }
    })
  }

  /** Lets a request in, or says why not: whether the server takes any, who asks, and whether the caller may. */
  #enter(
    request: IncomingMessage,
    record: RequestRecord,
    access: Access,
    answer: (error?: Error) => void,
  ): void {
    // How the server is may be asked to its end: one that stops in peace must not look dead.
    if (access === 'public') return answer()
    if (this.#draining) return answer(fail('shutting_down', { retryAfterMs: 1_000 }))
    const admit = (caller: Caller) => {
      record.caller = caller
      requireAccess(caller, access)
    }
    try {
      const caller = this.#gate.identify(request)
      if (caller instanceof Promise) {
        const told = caller.then(admit).then(noError, (error: Error) => error)
        return void told.then(answer)
      }
      admit(caller)
    } catch (error) {
      return answer(error as Error)
    }
    answer()
  }

  /** Of routes that are for all: whether an administrator asks. Who can't be known is none. */
  async #isAdmin(request: IncomingMessage): Promise<boolean> {
    try {
      return (await this.#gate.identify(request)).roles.has('admin')
    } catch {
      return false
    }
  }

  /** Opens the record of a request; it is closed with the answer. */
  #open(request: IncomingMessage, response: ServerResponse, id: string, endpoint: string): RequestRecord {
    const record = this.#book.open(id, request.method ?? 'GET', endpoint)
    const asked = this.#askedOn(request.socket)
    asked.answer = response
    response.on('close', () => {
      // The next request on the connection may have come already: then its answer is the one to wait for.
      if (asked.answer === response) asked.answer = null
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

  #askedOn(socket: Socket): { answer: ServerResponse | null } {
    let asked = this.#asked.get(socket)
    if (asked === undefined) this.#asked.set(socket, (asked = { answer: null }))
    return asked
  }
}

/** A client that waits to be asked for its body is asked only when it is let in. */
function askForBody(request: IncomingMessage, response: ServerResponse): void {
  if (request.headers.expect !== undefined) response.writeContinue()
}

/** The caller's own id where it is fit to be written into a log, else a new one. */
function chooseId(request: IncomingMessage): string {
  const given = request.headers['x-request-id']
  return typeof given === 'string' && requestIdPattern.test(given) ? given : makeId('req')
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
