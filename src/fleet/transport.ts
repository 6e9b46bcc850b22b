import { Pool, type Dispatcher } from 'undici'

/** Where an instance listens: TCP, or a Unix socket when `socketPath` is set. */
export type Endpoint = {
  /** Scheme, host and port, such as `http://127.0.0.1:8000`. */
  origin: string
  /** What stands before `/chat/completions`, such as `/v1`. */
  basePath: string
  socketPath: string | null
  /** The bearer token sent upstream; null for none. Never logged. */
  apiKey: string | null
}

export type TransportLimits = {
  connectMs: number
}

export type UpstreamRequest = {
  method: 'GET' | 'POST'
  /** Path with the endpoint's base in front, such as `/v1/chat/completions`. */
  path: string
  /** Name, value, name, value, …; the authorisation is added here. */
  headers: string[]
  body: Buffer | null
}

/** Receives one answer. After `onEnd` or `onError` nothing more comes; one of the two comes unless it is aborted. */
export type Receiver = {
  onHead(status: number, headers: Record<string, string | string[] | undefined>): void
  /** False asks for a pause; `Exchange.resume` ends it. */
  onData(chunk: Buffer): boolean
  onEnd(): void
  onError(error: Error): void
}

/** Connections are kept open while they are used every so often; opening one costs a round trip. */
const keepAliveMs = 30_000

/** One request under way, from the side of the caller. */
export class Exchange implements Dispatcher.DispatchHandler {
  readonly #receiver: Receiver
  #controller: Dispatcher.DispatchController | null = null
  #closed = false

  constructor(receiver: Receiver) {
    this.#receiver = receiver
  }

  /** Ends the exchange and cuts the connection; the receiver hears nothing more. */
  abort(): void {
    this.#closed = true
    // Before the connection is there, the request is cut as soon as it would start.
    this.#controller?.abort(abortReason)
  }

  resume(): void {
    this.#controller?.resume()
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#closed) controller.abort(abortReason)
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | string[] | undefined>,
  ): void {
    // Nobody reads them, and each is a view of the packet they came in, which stays as long as the answer takes.
    controller.rawHeaders = null
    // 1xx answers announce another one.
    if (!this.#closed && status >= 200) this.#receiver.onHead(status, headers)
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (!this.#closed && !this.#receiver.onData(chunk)) controller.pause()
  }

  onResponseEnd(): void {
    if (this.#closed) return
    // Closed only then: what the receiver throws comes back to it as `onResponseError`.
    this.#receiver.onEnd()
    this.#closed = true
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    if (this.#closed) return
    this.#closed = true
    this.#receiver.onError(error)
  }
}

const abortReason = new Error('aborted by the caller')

/** Kept-alive connections to one endpoint. */
export class Connections {
  readonly #pool: Pool
  readonly #basePath: string
  readonly #authorization: string[]

  constructor(endpoint: Endpoint, limits: TransportLimits) {
    this.#basePath = endpoint.basePath
    this.#authorization = endpoint.apiKey === null ? [] : ['authorization', `Bearer ${endpoint.apiKey}`]
    this.#pool = new Pool(endpoint.origin, {
      // How many requests are under way at once is the router's to limit: one connection for each.
      connections: null,
      pipelining: 1,
      allowH2: false,
      keepAliveTimeout: keepAliveMs,
      // Whoever asks keeps the time of the answer.
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: {
        timeout: limits.connectMs,
        ...(endpoint.socketPath === null ? {} : { socketPath: endpoint.socketPath }),
      },
    })
  }

  /** Sends a request; what comes back goes to `receiver`. */
  send(request: UpstreamRequest, receiver: Receiver): Exchange {
    const exchange = new Exchange(receiver)
    this.#pool.dispatch(
      {
        method: request.method,
        path: this.#basePath + request.path,
        headers:
          this.#authorization.length === 0 ? request.headers : [...request.headers, ...this.#authorization],
        body: request.body,
      },
      exchange,
    )
    return exchange
  }

  /** Fetches a small JSON document outside the data path (probes, discovery). */
  async getJson(path: string, options: { timeoutMs: number; bytesMax: number; absolute?: boolean }) {
    const { statusCode, body } = await this.#pool.request({
      method: 'GET',
      path: options.absolute ? path : this.#basePath + path,
      headers: this.#authorization,
      headersTimeout: options.timeoutMs,
      bodyTimeout: options.timeoutMs,
      signal: AbortSignal.timeout(options.timeoutMs),
    })
    const chunks: Buffer[] = []
    let bytes = 0
    for await (const chunk of body as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > options.bytesMax) throw new Error(`the answer is larger than ${options.bytesMax} bytes`)
      chunks.push(chunk)
    }
    const text = Buffer.concat(chunks).toString('utf8')
    let json: unknown = null
    try {
      json = JSON.parse(text)
    } catch {
      // A health page may be plain text: the status is what counts.
    }
    return { status: statusCode, json }
  }

  /** Cuts what is still under way. */
  async close(): Promise<void> {
    await this.#pool.destroy()
  }
}
