import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { fail } from '../src/core/errors.ts'
import { makeId } from '../src/core/ids.ts'
import { readBody } from './body.ts'
import type { Body } from './call.ts'
import { chat } from './chat.ts'
import { complete } from './completion.ts'
import { embed, inputsWaitingMax } from './embeddings.ts'
import type { Engine } from './engine.ts'
import { sendBody, sendError, sendJson } from './reply.ts'

export type EngineServer = {
  server: Server
  /** From now on new requests are refused; those in flight go on. */
  drain: () => void
  /** Requests that generate now. */
  inFlight: () => number
  /** Resolves when none generates any more. */
  whenIdle: () => Promise<void>
}

type Limits = { bodyBytesMax: number; jsonDepthMax: number }
/** Ids of other systems that may go into a header and a log line as they are. */
const requestIdPattern = /^[\w.:-]{1,128}$/
type Handler = (body: Body, response: ServerResponse, signal: AbortSignal) => Promise<unknown>

/** Headers and bodies that take longer are cut off. */
const headersTimeoutMs = 10_000
const requestTimeoutMs = 60_000
const keepAliveTimeoutMs = 65_000
/** How often slow senders are looked for; Node's own 30 s would let them stay that much longer. */
const slowCheckMs = 500
/** A reply that is complete and of which the caller takes nothing for so long is dropped. */
const sendTimeoutMs = 60_000

export function createEngineServer(
  engine: Engine,
  limits: Limits,
  log: (line: object) => void,
): EngineServer {
  const openMax = engine.scheduler.jobsMax + inputsWaitingMax
  let draining = false
  let open = 0
  let idle: (() => void)[] = []
  const posts: Record<string, Handler> = {
    '/v1/completions': (body, response, signal) => complete(body, response, engine, signal),
    '/v1/chat/completions': (body, response, signal) => chat(body, response, engine, signal),
    '/v1/embeddings': async (body, response, signal) =>
      sendJson(response, 200, await embed(body, engine, signal)),
  }
  const gets: Record<string, (response: ServerResponse) => unknown> = {
    '/v1/models': (response) => sendJson(response, 200, { object: 'list', data: [describeModel(engine)] }),
    '/health': (response) => sendHealth(response, engine, draining),
    '/metrics': async (response) =>
      sendBody(response, {
        status: 200,
        type: engine.metrics.contentType,
        body: await engine.metrics.render(),
      }),
  }

  const generate = async (handler: Handler, request: IncomingMessage, response: ServerResponse) => {
    const gone = new AbortController()
    // Also while it waits in line: a caller that left must not take a sequence later.
    response.on('close', () => {
      if (!response.writableFinished) gone.abort(fail('client_closed'))
    })
    open += 1
    try {
      if (draining) throw fail('shutting_down', { retryAfterMs: 1000 })
      // Each body takes memory: more requests than could ever be taken in are refused before theirs is read.
      if (open > openMax) throw fail('engine_overloaded', { retryAfterMs: 1000 })
      const body = await readBody(request, limits)
      await raceAbort(handler(body, response, gone.signal), gone.signal)
      await whenSent(response)
    } finally {
      // A reply that failed leaves sequences of the same request running: they have nobody to speak to.
      gone.abort(fail('client_closed'))
      open -= 1
      if (open === 0) for (const resolve of idle.splice(0)) resolve()
    }
  }

  const handle = async (request: IncomingMessage, response: ServerResponse) => {
    const path = (request.url ?? '/').split('?', 1)[0] as string
    const given = request.headers['x-request-id']
    const requestId = typeof given === 'string' && requestIdPattern.test(given) ? given : makeId('req')
    response.setHeader('x-request-id', requestId)
    // One label for all names: a caller must not be able to make as many as there are paths.
    let route = path.startsWith(modelPrefix) ? `${modelPrefix}{id}` : path
    try {
      const post = Object.hasOwn(posts, path) ? posts[path] : undefined
      const get = Object.hasOwn(gets, path) ? gets[path] : modelRoute(path, engine)
      if (!post && !get) {
        route = 'other'
        throw fail('not_found', { message: `There is no route ${path.slice(0, 100)}.` })
      }
      const isRead = request.method === 'GET' || request.method === 'HEAD'
      if (post && request.method === 'POST') await generate(post, request, response)
      else if (get && isRead) await get(response)
      else {
        response.setHeader('allow', post ? 'POST' : 'GET, HEAD')
        throw fail('method_not_allowed')
      }
      engine.metrics.countRequest(route, response.statusCode)
    } catch (thrown) {
      const error = sendError(response, thrown)
      engine.metrics.countRequest(route, error.status)
      // What is left of a refused body is not worth reading.
      if (!request.complete) response.once('finish', () => request.destroy())
      if (error.code === 'internal')
        log({ level: 'error', requestId, route, error: String(error.cause), stack: stackOf(error) })
    }
  }

  const server = createServer(
    {
      headersTimeout: headersTimeoutMs,
      requestTimeout: requestTimeoutMs,
      keepAliveTimeout: keepAliveTimeoutMs,
      connectionsCheckingInterval: slowCheckMs,
      noDelay: true,
    },
    (request, response) => void handle(request, response),
  )
  return {
    server,
    drain() {
      draining = true
    },
    inFlight: () => open,
    whenIdle: () => (open === 0 ? Promise.resolve() : new Promise((resolve) => idle.push(resolve))),
  }
}

/** Settles with `work`, or rejects at once when `signal` aborts: the scheduler tells an aborted job nothing. */
export function raceAbort(work: Promise<unknown>, signal: AbortSignal): Promise<unknown> {
  return new Promise((resolve, reject) => {
    // A signal tells of its abort once only; it may have been before.
    if (signal.aborted) reject(signal.reason as Error)
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
    work.then(resolve, reject)
  })
}

/** A reply counts as in flight until its last byte has left: a stop must not cut it. */
function whenSent(response: ServerResponse): Promise<void> {
  if (response.writableFinished || response.destroyed) return Promise.resolve()
  response.setTimeout(sendTimeoutMs, () => response.destroy())
  return new Promise((resolve) => response.once('finish', resolve).once('close', resolve))
}

function describeModel(engine: Engine) {
  return {
    id: engine.loaded.name,
    object: 'model',
    created: engine.loadedAtS,
    owned_by: 'local',
    context_window: engine.loaded.contextTokens,
  }
}

const modelPrefix = '/v1/models/'

/** GET /v1/models/{id} */
function modelRoute(path: string, engine: Engine): ((response: ServerResponse) => unknown) | undefined {
  if (!path.startsWith(modelPrefix)) return undefined
  return (response) => {
    const name = decode(path.slice(modelPrefix.length))
    if (name === engine.loaded.name) return sendJson(response, 200, describeModel(engine))
    throw fail('model_not_found', { param: 'model' })
  }
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

function sendHealth(response: ServerResponse, engine: Engine, draining: boolean): void {
  const status = draining ? 'draining' : 'ok'
  sendJson(response, draining ? 503 : 200, {
    status,
    model: engine.loaded.name,
    slots: engine.scheduler.counts,
  })
}

function stackOf(error: Error): string {
  return error.cause instanceof Error ? (error.cause.stack ?? '') : (error.stack ?? '')
}
