import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

const mainFile = new URL('../../src/main.ts', import.meta.url).pathname

type CommandOptions = { cwd: string; env?: Record<string, string> }

/** One run of the real command line. */
export class Command {
  readonly child: ChildProcess
  stdout = ''
  stderr = ''
  readonly #exit: Promise<number | null>
  #heard: (() => void)[] = []

  constructor(args: readonly string[], options: CommandOptions) {
    const { PATH = '', HOME = '' } = process.env
    this.child = spawn(process.execPath, [mainFile, ...args], {
      cwd: options.cwd,
      env: { PATH, HOME, ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => this.#hear('stdout', text))
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => this.#hear('stderr', text))
    // It may end before it has read all that is sent to it.
    this.child.stdin?.on('error', () => {})
    this.#exit = once(this.child, 'close').then(([code]) => code as number | null)
  }

  #hear(stream: 'stdout' | 'stderr', text: string): void {
    this[stream] += text
    for (const tell of this.#heard.splice(0)) tell()
  }

  /** Resolves when both streams are closed and the process has ended. */
  async exit(): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const code = await this.#exit
    return { code, stdout: this.stdout, stderr: this.stderr }
  }

  /** Waits until one of the streams holds `pattern`; throws when the process ends without it. */
  async says(pattern: RegExp): Promise<void> {
    let ended = false
    void this.#exit.then(() => {
      ended = true
      for (const tell of this.#heard.splice(0)) tell()
    })
    while (!pattern.test(this.stdout) && !pattern.test(this.stderr)) {
      if (ended) throw new Error(`ended without ${pattern}:\n${this.stdout}\n${this.stderr}`)
      await new Promise<void>((resolve) => this.#heard.push(resolve))
    }
  }

  send(text: string): void {
    this.child.stdin?.write(text)
  }

  end(): void {
    this.child.stdin?.end()
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal)
  }
}

/** Runs a command line to its end, with `input` as its whole stdin. */
export async function run(
  args: readonly string[],
  options: CommandOptions & { input?: string },
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const command = new Command(args, options)
  command.child.stdin?.end(options.input ?? '')
  return command.exit()
}

type Body = { model: string; messages: { role: string; content: string }[] } & Record<string, unknown>
type ChatHandler = (body: Body, response: ServerResponse, request: IncomingMessage) => void

export const chunk = (content: string, finish: string | null = null) =>
  `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content }, finish_reason: finish }] })}\n\n`

/** Answers with its own question, backwards, in pieces. */
export const answerBackwards: ChatHandler = (body, response) => {
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  for (const letter of (body.messages.at(-1)?.content ?? '').split('').reverse())
    response.write(chunk(letter))
  response.end(`${chunk('', 'stop')}data: [DONE]\n\n`)
}

/** An OpenAI-compatible server that does as it is told. */
export async function startFakeServer(): Promise<{
  url: string
  chats: Body[]
  keys: (string | undefined)[]
  models: object[]
  onChat: ChatHandler
  close: () => void
}> {
  const server = createServer((request, response) => {
    fake.keys.push(request.headers.authorization)
    if (request.url === '/v1/models') {
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify({ object: 'list', data: fake.models }))
      return
    }
    if (request.url !== '/v1/chat/completions') {
      response.writeHead(404).end()
      return
    }
    let text = ''
    request.setEncoding('utf8').on('data', (part: string) => (text += part))
    request.on('end', () => {
      const body = JSON.parse(text) as Body
      fake.chats.push(body)
      fake.onChat(body, response, request)
    })
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const fake = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    chats: [] as Body[],
    keys: [] as (string | undefined)[],
    models: [
      { id: 'one', object: 'model' },
      { id: 'two', object: 'model' },
    ] as object[],
    onChat: answerBackwards,
    close: () => {
      server.close()
      server.closeAllConnections()
    },
  }
  return fake
}
