import { createInterface, type Interface } from 'node:readline'
import { isatty } from 'node:tty'
import { SetupError } from '../core/errors.ts'
import { findServer, listModels, streamChat, type ListedModel, type Server } from './api-client.ts'
import { makeRequest, readLine, remember, type Session } from './chat-session.ts'
import { keepText } from './plain-text.ts'

export type ChatOptions = {
  url?: string
  model?: string
  system?: string
  temperature?: string
  maxTokens?: string
}

const exitInterrupted = 130

const write = (text: string) => process.stdout.write(text)

function readNumber(flag: string, text: string | undefined, range: { min: number; max: number; whole: boolean }) {
  if (text === undefined) return null
  const value = text.trim() === '' ? Number.NaN : Number(text)
  const fits = value >= range.min && value <= range.max && (!range.whole || Number.isInteger(value))
  if (fits) return value
  throw new SetupError(`${flag} ${text} is not allowed; a ${range.whole ? 'whole ' : ''}number from ${range.min} to ${range.max}`)
} // prettier-ignore

/** The model that one most likely means: one that answers now, and no alias. */
function chooseModel(models: readonly ListedModel[]): string | null {
  const own = models.filter(({ alias_of }) => alias_of === undefined)
  return (own.find(({ instances }) => (instances?.available ?? 1) > 0) ?? own[0])?.id ?? null
}

async function openSession(
  server: Server,
  options: ChatOptions,
): Promise<{ session: Session; models: ListedModel[] }> {
  const temperature = readNumber('--temperature', options.temperature, { min: 0, max: 2, whole: false })
  const maxTokens = readNumber('--max-tokens', options.maxTokens, { min: 1, max: 10_000_000, whole: true })
  const models = await listModels(server)
  const model = options.model ?? chooseModel(models)
  if (model === null) throw new SetupError(`${server.url} serves no model yet`)
  if (models.length > 0 && !models.some(({ id }) => id === model)) {
    throw new SetupError(`${server.url} has no model ${model}; there are: ${models.map(({ id }) => id).join(', ')}`)
  }
  return { session: { model, system: options.system ?? null, messages: [], temperature, maxTokens }, models }
} // prettier-ignore

/** One answer at a time, which Ctrl-C stops; with no answer under way, Ctrl-C is `onIdle`. */
class Turn {
  readonly #server: Server
  #running: AbortController | null = null

  constructor(server: Server) {
    this.#server = server
  }

  /** False when there was nothing to stop. */
  interrupt(): boolean {
    if (this.#running === null || this.#running.signal.aborted) return false
    this.#running.abort()
    return true
  }

  /** Writes the answer as it comes; resolves with its text and whether it was stopped. */
  async answer(session: Session, question: string): Promise<{ text: string; stopped: boolean }> {
    const running = new AbortController()
    this.#running = running
    let text = ''
    try {
      for await (const piece of streamChat(this.#server, makeRequest(session, question), running.signal)) {
        text += piece
        write(process.stdout.isTTY ? keepText(piece) : piece)
      }
      return { text, stopped: false }
    } catch (error) {
      if (!running.signal.aborted) throw error
      return { text, stopped: true }
    } finally {
      write('\n')
      this.#running = null
    }
  }
}

async function converse(opened: { session: Session; models: ListedModel[] }, turn: Turn, lines: Interface) {
  let { session } = opened
  const isTerminal = isatty(0)
  let closed = false
  lines.once('close', () => {
    closed = true
  })
  const prompt = () => {
    if (isTerminal && !closed) lines.prompt()
  }
  if (isTerminal) write(`Talking to ${session.model}. /help lists the commands, Ctrl-D ends.\n`)
  prompt()
  for await (const line of lines) {
    const step = readLine(line, session, opened.models)
    if (step.kind === 'exit') break
    if (step.kind === 'go-on') {
      session = step.session
      if (step.say !== '') (isTerminal ? process.stdout : process.stderr).write(`${step.say}\n`)
    } else {
      try {
        const { text, stopped } = await turn.answer(session, step.text)
        session = remember(session, step.text, text)
        if (stopped) process.stderr.write('(stopped)\n')
      } catch (error) {
        // A person can ask again; a script must learn that it has no answer.
        if (!isTerminal || !(error instanceof SetupError)) throw error
        process.stderr.write(`error: ${error.message}\n`)
      }
    }
    prompt()
  }
}

/** Talks to a running server: one question, or a conversation over stdin. Resolves with the exit code. */
export async function chat(question: string, options: ChatOptions): Promise<number> {
  const server = findServer(options.url, process.env)
  const turn = new Turn(server)
  let lines: Interface | null = null
  let exitCode = 0
  const onInterrupt = () => {
    if (turn.interrupt() && question === '') return
    exitCode = exitInterrupted
    if (lines === null && question === '') process.exit(exitCode)
    lines?.close()
  }
  process.on('SIGINT', onInterrupt)
  try {
    const opened = await openSession(server, options)
    if (question !== '') {
      await turn.answer(opened.session, question)
      return exitCode
    }
    lines = createInterface({ input: process.stdin, output: process.stdout, terminal: isatty(0) })
    lines.on('SIGINT', onInterrupt)
    await converse(opened, turn, lines)
    return exitCode
  } finally {
    process.off('SIGINT', onInterrupt)
    lines?.close()
    // A pipe that stays open must not keep the process alive.
    process.stdin.destroy()
  }
} // prettier-ignore
