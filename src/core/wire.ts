import type { Duplex } from 'node:stream'
import { deserialize, serialize } from 'node:v8'
import { SetupError } from './errors.ts'

/** What the other side threw, or that it is gone. Errors cross as their name and their message. */
export class WireError extends Error {
  override readonly name = 'WireError'
  /** The name of the error on the other side; `WireClosed` when there is no other side any more. */
  readonly kind: string

  constructor(kind: string, message: string) {
    super(message)
    this.kind = kind
  }
}

type Frame =
  | { tell: string; body: unknown }
  | { ask: string; number: number; body: unknown }
  | { answer: number; body: unknown }
  | { refusal: number; kind: string; message: string }

type Pending = { resolve: (body: unknown) => void; reject: (error: Error) => void }
type Handler = (body: never) => unknown

const headBytes = 4
/** V8 itself can't make a larger buffer of one message; nothing that is sent comes near. */
const frameBytesMax = 0x7fff_ffff
const congestedBytes = 1024 * 1024
const closedMessage = 'The other process is gone.'

/**
 * Messages between two processes of this program over a pipe: what is told, and what is asked and answered. Bodies are
 * plain data; bytes, maps and `undefined` survive (V8's structured clone). What is sent in one turn of the loop leaves
 * in one write. Both sides are of the same program and trust one another.
 */
export class Wire {
  readonly #stream: Duplex
  readonly #asksMax: number
  readonly #handlers = new Map<string, Handler>()
  readonly #pending = new Map<number, Pending>()
  readonly #closed = Promise.withResolvers<void>()
  #numbers = 0
  #isClosed = false
  #isCorked = false
  #chunks: Buffer[] = []
  #bytes = 0
  #needed = headBytes

  constructor(stream: Duplex, { asksMax = 20_000 }: { asksMax?: number } = {}) {
    this.#stream = stream
    this.#asksMax = asksMax
    stream.on('data', (chunk: Buffer) => this.#take(chunk))
    stream.on('error', () => this.#end())
    stream.on('end', () => this.#end())
    stream.on('close', () => this.#end())
  }

  /** Resolves when the other side is gone, or `close` was called. */
  get closed(): Promise<void> {
    return this.#closed.promise
  }

  /** Bytes that wait for the other side to read them. */
  get waitingBytes(): number {
    return this.#stream.writableLength
  }

  /** The other side reads so little that what can wait, or can be told together later, should. */
  get isCongested(): boolean {
    return this.#stream.writableLength > congestedBytes
  }

  /** Says what is done with messages of a name; what it returns, or throws, is the answer to a question. */
  on(name: string, handle: Handler): void {
    this.#handlers.set(name, handle)
  }

  /** Sends a message; into the void when nobody is there. */
  tell(name: string, body: unknown): void {
    this.#send({ tell: name, body })
  }

  /** Rejects with a WireError, or a SetupError where that was thrown. */
  ask<Answer>(name: string, body: unknown): Promise<Answer> {
    if (this.#isClosed) return Promise.reject(new WireError('WireClosed', closedMessage))
    if (this.#pending.size >= this.#asksMax) {
      const message = `${this.#asksMax} questions to the other process wait for their answers already.`
      return Promise.reject(new WireError('WireFull', message))
    }
    this.#numbers += 1
    const number = this.#numbers
    return new Promise<Answer>((resolve, reject) => {
      // Sent first: what can't be sent must not be waited for.
      this.#send({ ask: name, number, body })
      this.#pending.set(number, { resolve: resolve as Pending['resolve'], reject })
    })
  }

  close(): void {
    this.#stream.destroy()
    this.#end()
  }

  #send(frame: Frame): void {
    if (this.#isClosed) return
    const bytes = serialize(frame)
    const head = Buffer.allocUnsafe(headBytes)
    head.writeUInt32LE(bytes.length)
    if (!this.#isCorked) {
      this.#isCorked = true
      this.#stream.cork()
      queueMicrotask(() => {
        this.#isCorked = false
        this.#stream.uncork()
      })
    }
    this.#stream.write(head)
    this.#stream.write(bytes)
  }

  #take(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.#bytes += chunk.length
    if (this.#bytes < this.#needed) return
    let rest = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks, this.#bytes)
    this.#needed = headBytes
    while (rest.length >= headBytes) {
      const length = rest.readUInt32LE()
      if (length > frameBytesMax) return this.close()
      if (rest.length < headBytes + length) {
        this.#needed = headBytes + length
        break
      }
      const frame = readFrame(rest.subarray(headBytes, headBytes + length))
      if (frame === null) return this.close()
      this.#handle(frame)
      rest = rest.subarray(headBytes + length)
    }
    this.#chunks = rest.length > 0 ? [rest] : []
    this.#bytes = rest.length
  }

  #handle(frame: Frame): void {
    if ('tell' in frame) this.#hear(frame)
    else if ('ask' in frame) void this.#answer(frame)
    else if ('answer' in frame) this.#settle(frame.answer)?.resolve(frame.body)
    else this.#settle(frame.refusal)?.reject(revive(frame))
  }

  /** What can't be understood ends the wire and not the process: its other side is replaced. */
  #hear({ tell, body }: Extract<Frame, { tell: string }>): void {
    try {
      this.#handlers.get(tell)?.(body as never)
    } catch {
      this.close()
    }
  }

  async #answer({ ask, number, body }: Extract<Frame, { ask: string }>): Promise<void> {
    try {
      const handle = this.#handlers.get(ask)
      if (!handle) throw new Error(`nobody answers \`${ask}\` here`)
      this.#send({ answer: number, body: await handle(body as never) })
    } catch (error) {
      const { name, message } = error instanceof Error ? error : new Error(String(error))
      this.#send({ refusal: number, kind: name, message })
    }
  }

  #settle(number: number): Pending | undefined {
    const pending = this.#pending.get(number)
    this.#pending.delete(number)
    return pending
  }

  #end(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#stream.destroy()
    for (const { reject } of this.#pending.values()) reject(new WireError('WireClosed', closedMessage))
    this.#pending.clear()
    this.#closed.resolve()
  }
}

/** Null for what is none: a process of another version, or one that writes nonsense, must not end this one. */
function readFrame(bytes: Buffer): Frame | null {
  try {
    const frame: unknown = deserialize(bytes)
    return typeof frame === 'object' && frame !== null ? (frame as Frame) : null
  } catch {
    return null
  }
}

const revive = ({ kind, message }: { kind: string; message: string }): Error =>
  kind === 'SetupError' ? new SetupError(message) : new WireError(kind, message)
