import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'

export type UpstreamRequest = {
  path: string
  headers: IncomingMessage['headers']
  body: Buffer
  json: Record<string, unknown>
}

export type Behaviour = (request: UpstreamRequest, response: ServerResponse, socket: Socket) => unknown

/** A model server that behaves as the test says. It counts what it got, and knows who hung up. */
export class FakeUpstream implements AsyncDisposable {
  readonly requests: UpstreamRequest[] = []
  /** Requests under way now. */
  active = 0
  /** Requests whose caller left before the answer was complete. */
  abandoned = 0
  behave: Behaviour
  models: readonly string[]
  readonly #server: Server
  readonly #waiters: { done: () => boolean; resolve: () => void }[] = []

  constructor(behave: Behaviour, models: readonly string[]) {
    this.behave = behave
    this.models = models
    this.#server = createServer((request, response) => void this.#take(request, response))
  }

  static async start(
    behave: Behaviour = answerChat(),
    models: readonly string[] = ['m'],
  ): Promise<FakeUpstream> {
    const upstream = new FakeUpstream(behave, models)
    upstream.#server.listen(0, '127.0.0.1')
    await once(upstream.#server, 'listening')
    return upstream
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}/v1`
  }

  /** Resolves as soon as `done` holds; looked at whenever a request comes or goes. */
  until(done: (upstream: this) => boolean): Promise<void> {
    if (done(this)) return Promise.resolve()
    return new Promise((resolve) => {
      this.#waiters.push({ done: () => done(this), resolve })
    })
  }

  /** Cuts all connections, but goes on listening. */
  cut(): void {
    this.#server.closeAllConnections()
  }

  async stop(): Promise<void> {
    if (!this.#server.listening) return
    this.#server.close()
    this.#server.closeAllConnections()
    await once(this.#server, 'close')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? ''
    if (path === '/v1/models') {
      response.setHeader('content-type', 'application/json')
      response.end(
        JSON.stringify({ object: 'list', data: this.models.map((id) => ({ id, object: 'model' })) }),
      )
      return
    }
    this.active += 1
    response.once('close', () => {
      this.active -= 1
      if (!response.writableFinished) this.abandoned += 1
      this.#tell()
    })
    const chunks: Buffer[] = []
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer)
    } catch {
      return
    }
    const body = Buffer.concat(chunks)
    const json = JSON.parse(body.toString('utf8') || '{}') as Record<string, unknown>
    const taken = { path, headers: request.headers, body, json }
    this.requests.push(taken)
    this.#tell()
    await this.behave(taken, response, request.socket)
  }

  #tell(): void {
    for (const waiter of this.#waiters.splice(0)) {
      if (waiter.done()) waiter.resolve()
      else this.#waiters.push(waiter)
    }
  }
}

export const usage = { prompt_tokens: 5, completion_tokens: 3, total_tokens: 8 }

/** One event of a chat stream. */
export const chatEvent = (content: string, extra: object = {}) =>
  `data: ${JSON.stringify({ id: 'c', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [{ index: 0, delta: { content }, finish_reason: null }], ...extra })}\n\n`

export const usageEvent = `data: ${JSON.stringify({ id: 'c', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [], usage })}\n\n`
export const doneEvent = 'data: [DONE]\n\n'

export function wholeChat(content = 'Hello.'): Record<string, unknown> {
  const message = { role: 'assistant', content }
  return { id: 'c', object: 'chat.completion', created: 1, model: 'm', choices: [{ index: 0, message, finish_reason: 'stop' }], usage } // prettier-ignore
}

/** Answers as a well-behaved instance: JSON, or a stream with usage where it is asked for. */
export function answerChat(words: readonly string[] = ['Hel', 'lo', '.']): Behaviour {
  return ({ json }, response) => {
    if (json['stream'] !== true) return sendJson(response, 200, wholeChat(words.join('')))
    const options = json['stream_options'] as { include_usage?: boolean } | undefined
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    for (const word of words) response.write(chatEvent(word))
    if (options?.include_usage) response.write(usageEvent)
    response.end(doneEvent)
    return undefined
  }
}

export function sendJson(response: ServerResponse, status: number, body: unknown, headers = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers })
  response.end(JSON.stringify(body))
}
