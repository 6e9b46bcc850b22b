import { Agent, request, type IncomingMessage } from 'node:http'

export type Reply = { status: number; text: string; process: string }

/**
 * A client with one connection, which is always the same while the server leaves it open: all its requests go to one
 * process. Which one, the ids of the requests tell: each process has a beginning of its own for them.
 */
export class PinnedClient implements Disposable {
  readonly #url: string
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 })
  /** That of the last answer. */
  process = ''

  constructor(url: string) {
    this.#url = url
  }

  /** One for each process of the server. */
  static async forEach(url: string, processes: number): Promise<PinnedClient[]> {
    const found = new Map<string, PinnedClient>()
    for (let tries = 0; found.size < processes && tries < 50; tries += 1) {
      const client = new PinnedClient(url)
      const { process } = await client.get('/livez')
      if (found.has(process)) client[Symbol.dispose]()
      else found.set(process, client)
    }
    if (found.size < processes) throw new Error(`${found.size} of ${processes} processes take connections`)
    return [...found.values()]
  }

  get(path: string, headers: Record<string, string> = {}): Promise<Reply> {
    return this.#send('GET', path, null, headers)
  }

  post(path: string, body: unknown, headers: Record<string, string> = {}): Promise<Reply> {
    return this.#send('POST', path, JSON.stringify(body), headers)
  }

  [Symbol.dispose](): void {
    this.#agent.destroy()
  }

  #send(method: string, path: string, body: string | null, headers: Record<string, string>): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const onAnswer = (answer: IncomingMessage) => {
        const chunks: Buffer[] = []
        answer.on('data', (chunk: Buffer) => chunks.push(chunk))
        answer.on('error', reject)
        answer.on('end', () => {
          if (!answer.complete) return reject(new Error('the answer broke off'))
          this.process = readProcess(answer.headers['x-request-id'])
          const text = Buffer.concat(chunks).toString()
          resolve({ status: answer.statusCode ?? 0, text, process: this.process })
        })
      }
      const options = {
        agent: this.#agent,
        method,
        headers: { ...(body === null ? {} : { 'content-type': 'application/json' }), ...headers },
      }
      request(this.#url + path, options, onAnswer)
        .on('error', reject)
        .end(body)
    })
  }
}

/** `req_k3v9…0001f` -> `k3v9…` */
export const readProcess = (requestId: unknown): string =>
  String(requestId).slice('req_'.length, 'req_'.length + 12)
