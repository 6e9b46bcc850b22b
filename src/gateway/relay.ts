import type { ServerResponse } from 'node:http'
import type { Clock } from '../core/clock.ts'
import { toErrorBody, type ApiError } from '../core/errors.ts'
import { skipSpace } from '../core/json.ts'
import { formatEvent, isEventStream, readEventData, splitEvents } from '../core/sse.ts'
import type { AnswerHead, Sink } from '../router/call.ts'
import { readTokenCount } from '../router/calls/token-count.ts'
import { listAnswerHeaders } from './answer-headers.ts'
import { replyWithError } from './reply.ts'
import type { RequestBook } from './request-book.ts'
import type { RequestRecord } from './request-record.ts'

/** Whole answers up to this size are sent as a text: a larger copy would cost more than it saves. */
const textBytesMax = 8_192

/**
 * Carries an answer to the client as it comes: bytes in, the same bytes out, the usage read as they pass. What is
 * held is one chunk; a client that reads slowly stops the instance's bytes, and one that stops reading is cut off.
 */
export class Relay implements Sink {
  readonly #response: ServerResponse
  readonly #record: RequestRecord
  readonly #book: RequestBook
  readonly #clock: Clock
  readonly #hidesUsage: boolean
  readonly #stallMs: number
  #head: AnswerHead | null = null
  #isStream = false
  /** A whole answer, until its end is known to be there: head and body then go out in one write. */
  #whole: Buffer | null = null
  #stopStallTimer: (() => void) | null = null

  constructor(parts: {
    response: ServerResponse
    record: RequestRecord
    book: RequestBook
    clock: Clock
    /** The client did not ask for the usage of its stream. */
    hidesUsage: boolean
    /** How long a client may take none of the bytes waiting for it. */
    stallMs: number
  }) {
    this.#response = parts.response
    this.#record = parts.record
    this.#book = parts.book
    this.#clock = parts.clock
    this.#hidesUsage = parts.hidesUsage
    this.#stallMs = parts.stallMs
  }

  head(head: AnswerHead): void {
    this.#head = head
    this.#isStream = isEventStream(head.contentType)
    this.#record.status = head.status
    this.#record.model = head.model
    this.#record.instance = head.instance.id
    this.#record.attempts = head.attempts
    this.#record.ttftMs = this.#book.ageMs(this.#record)
  }

  data(chunk: Buffer, resume: () => void): boolean {
    const bytes = this.#takeUsage(chunk)
    if (bytes.length === this.#head?.contentLength) {
      this.#whole = bytes
      return true
    }
    const response = this.#response
    if (response.headersSent) return bytes.length === 0 || response.write(bytes) || this.#waitForDrain(resume)
    // Head and first bytes go out together: apart, the second waits for the client's acknowledgement of the first.
    response.cork()
    this.#writeHead()
    const isRoom = bytes.length === 0 || response.write(bytes)
    response.uncork()
    return isRoom || this.#waitForDrain(resume)
  }

  end(): void {
    if (this.#whole) {
      this.#writeHead()
      // With a text Node sends head and body as one, with a buffer as two; as latin1 each byte stays what it is.
      if (this.#whole.length <= textBytesMax) this.#response.end(this.#whole.toString('latin1'), 'latin1')
      else this.#response.end(this.#whole)
    } else {
      this.#response.end()
    }
    this.#watchRest()
  }

  /** Ends a request that failed: with an error of its own, or as the last event of a stream that broke off. */
  fail(error: ApiError): void {
    this.#record.error = error.code
    const response = this.#response
    if (!response.headersSent) {
      this.#record.status = error.status
      replyWithError(response, error, this.#record)
    } else if (this.#isStream) {
      response.end(formatEvent(toErrorBody(error)))
      this.#watchRest()
    } else {
      // Half a JSON text: only a broken connection tells the client that it is not whole.
      response.destroy()
    }
  }

  #writeHead(): void {
    const head = this.#head as AnswerHead
    const headers = listAnswerHeaders(head, this.#record)
    headers.push('content-type', head.contentType)
    if (head.contentLength !== null) headers.push('content-length', String(head.contentLength))
    if (this.#isStream) headers.push('cache-control', 'no-cache', 'x-accel-buffering', 'no')
    this.#response.writeHead(head.status, headers)
  }

  #waitForDrain(resume: () => void): boolean {
    this.#response.once('drain', () => {
      this.#stopStallTimer?.()
      this.#stopStallTimer = null
      resume()
    })
    this.#watchStall()
    return false
  }

  /** The instance is done; the client may still have bytes to take. */
  #watchRest(): void {
    if (this.#response.writableLength === 0) return
    this.#watchStall()
    this.#response.once('close', () => this.#stopStallTimer?.())
  }

  /** Cuts the client off when it takes nothing for `stallMs`; one that is merely slow goes on. */
  #watchStall(): void {
    this.#stopStallTimer?.()
    const waiting = this.#response.writableLength
    this.#stopStallTimer = this.#clock.after(this.#stallMs, () => {
      if (this.#response.writableLength < waiting) this.#watchStall()
      else this.#response.destroy()
    })
  }

  /** Notes the usage in these bytes; returns them without the event that only the gateway asked for. */
  #takeUsage(chunk: Buffer): Buffer {
    if (!this.#isStream) {
      noteUsage(this.#record, readLastUsage(chunk))
      return chunk
    }
    this.#record.events += 1
    if (!hasUsageObject(chunk)) return chunk
    const shown = splitEvents(chunk).filter((event) => {
      const data = event.includes(usageKey) ? parseEvent(event) : null
      noteUsage(this.#record, data?.usage)
      const isUsageAlone =
        typeof data?.usage === 'object' && data.usage !== null && data.choices?.length === 0
      return !(this.#hidesUsage && isUsageAlone)
    })
    return Buffer.concat(shown)
  }
}

type Usage = {
  prompt_tokens?: unknown
  completion_tokens?: unknown
  prompt_tokens_details?: { cached_tokens?: unknown } | null
}

const usageKey = Buffer.from('"usage"')
const openBrace = 0x7b
/** Usages of today have about three hundred characters, details included. */
const usageCharsMax = 1024

/** Some instances write `"usage":null` into every chunk: only an object is worth parsing for. */
function hasUsageObject(chunk: Buffer): boolean {
  for (let at = chunk.indexOf(usageKey); at !== -1; at = chunk.indexOf(usageKey, at + 1)) {
    const colon = skipSpace(chunk, at + usageKey.length)
    if (chunk[skipSpace(chunk, colon + 1)] === openBrace) return true
  }
  return false
}

function parseEvent(event: Buffer): { usage?: Usage | null; choices?: unknown[] } | null {
  try {
    return JSON.parse(readEventData(event) ?? 'null') as { usage?: Usage | null; choices?: unknown[] } | null
  } catch {
    return null
  }
}

/**
 * The last `"usage": {…}` of a whole answer. Inside a string the quotes would be escaped, so the key is the key. Only
 * the few numbers wanted are taken from it: a usage is small and flat, but for details that are flat again.
 */
function readLastUsage(body: Buffer): Usage | null {
  const key = body.lastIndexOf(usageKey)
  if (key === -1) return null
  const text = body.toString('latin1', key, key + usageCharsMax)
  const read = (pattern: RegExp) => Number(pattern.exec(text)?.[1] ?? NaN)
  return {
    prompt_tokens: read(/"prompt_tokens"\s*:\s*(-?\d+)/),
    completion_tokens: read(/"completion_tokens"\s*:\s*(-?\d+)/),
    prompt_tokens_details: { cached_tokens: read(/"cached_tokens"\s*:\s*(-?\d+)/) },
  }
}

function noteUsage(record: RequestRecord, usage: Usage | null | undefined): void {
  if (!usage) return
  record.promptTokens = readTokenCount(usage.prompt_tokens)
  record.completionTokens = readTokenCount(usage.completion_tokens)
  record.cachedTokens = readTokenCount(usage.prompt_tokens_details?.cached_tokens)
}
