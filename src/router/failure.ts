import { errors as undiciErrors } from 'undici'
import { skipSpace } from '../core/json.ts'
import { readEventData, splitEvents } from '../core/sse.ts'
import type { ErrorCode } from '../core/errors.ts'

/** Why an attempt brought no answer, and what follows from it. */
export type Failure = {
  code: ErrorCode
  /** For the caller and the log. */
  message: string
  /** Another instance may do better. */
  retryable: boolean
  /** It counts against the instance; what the caller did wrong, or being busy, never does. */
  harmful: boolean
  /** The instance asks to be left alone for so long, in ms. */
  busyForMs: number
}

/** An instance that is busy and does not say for how long is left alone for a moment. */
const busyDefaultMs = 1_000
/** However long it asks for, it is tried again after this long. */
const busyMaxMs = 60_000
const quotedCharsMax = 300
const openBrace = 0x7b
const letterE = 0x65
const letterO = 0x6f

const failed = (code: ErrorCode, message: string): Failure => {
  return { code, message, retryable: true, harmful: true, busyForMs: 0 }
}

/** The connection broke, or was not to be had, before the answer was complete. */
export function judgeTransportError(error: Error): Failure {
  if (error instanceof undiciErrors.ConnectTimeoutError) {
    return failed('upstream_failed', 'The model instance did not accept a connection in time.')
  }
  const reason = 'code' in error && typeof error.code === 'string' ? error.code : error.message
  return failed('upstream_failed', `The connection to the model instance failed (${reason}).`)
}

/** The instance answered 200 with something that no client could use. */
export function judgeInvalidAnswer(problem: string): Failure {
  return failed('upstream_invalid', `The model instance answered ${problem}.`)
}

/**
 * What a status says, or null when it is an answer that belongs to the caller: a success, or a complaint about the
 * request itself, which no other instance would see differently.
 */
export function judgeStatus(status: number, retryAfter: string | null, body: Buffer): Failure | null {
  if (status === 200) return null
  const said = quote(body)
  const message = `The model instance answered ${status}${said ? `: ${said}` : ''}.`
  if (status === 429 || status === 503) {
    const busyForMs = Math.min(readRetryAfterMs(retryAfter) ?? busyDefaultMs, busyMaxMs)
    const code = status === 429 ? 'rate_limited' : 'engine_overloaded'
    return { code, message, retryable: true, harmful: false, busyForMs }
  }
  // The key is this server's, not the caller's; what is said of it may quote it.
  if (status === 401 || status === 403) {
    return failed(
      'upstream_unauthorized',
      `The model instance answered ${status}: it refuses the key of this server.`,
    )
  }
  if (status >= 500) return failed('upstream_failed', message)
  if (status < 400) return failed('upstream_invalid', message)
  return null
}

/** What the first bytes of an answer of status 200 say: it is a JSON object without an error in it, or a failure. */
export function judgeStart(body: Buffer, contentType: string): Failure | null {
  if (body.length === 0) return judgeInvalidAnswer('nothing')
  const brace = skipSpace(body, 0)
  if (body[brace] !== openBrace) {
    return judgeInvalidAnswer(`something that is not JSON (${contentType || 'no content type'})`)
  }
  // Nearly every answer begins with its id: what may be an error is known by the first letter of its first key.
  const letter = body[skipSpace(body, brace + 1) + 1]
  if (letter !== letterE && letter !== letterO) return null
  const start = body.toString('latin1', brace, brace + 64)
  if (!/^\{\s*("error"\s*:(?!\s*null)|"object"\s*:\s*"error")/.test(start)) return null
  return readError(body.toString('utf8')) ?? judgeInvalidAnswer('half a JSON text')
}

/** What the first events of a stream say: whether there is data among them, and whether that is an error. */
export function judgeEvents(events: Buffer): { hasData: boolean; failure: Failure | null } {
  for (const event of splitEvents(events)) {
    const data = readEventData(event)
    if (data === null) continue
    if (/^event: ?error\r?$/m.test(event.toString('latin1'))) {
      return { hasData: true, failure: readError(data) ?? judgeErrorInside({ message: data }) }
    }
    return { hasData: true, failure: data.startsWith('{') ? readError(data) : null }
  }
  return { hasData: false, failure: null }
}

/** The failure that a JSON text tells of: `{"error": …}`, or an error object by itself; null when it is none. */
function readError(text: string): Failure | null {
  // Every first event comes through here: only what may be an error is worth parsing.
  if (!text.includes('"error"')) return null
  try {
    const parsed = JSON.parse(text) as { error?: unknown; object?: unknown }
    if (parsed.error !== undefined && parsed.error !== null) return judgeErrorInside(parsed.error)
    return parsed.object === 'error' ? judgeErrorInside(parsed) : null
  } catch {
    return judgeInvalidAnswer('half a JSON text')
  }
}

/** An error in an answer of status 200. Its own code says whose fault it is. */
function judgeErrorInside(error: unknown): Failure | null {
  const fields = typeof error === 'object' && error !== null ? (error as Record<string, unknown>) : {}
  const status = typeof fields['code'] === 'number' ? fields['code'] : 500
  const text = typeof fields['message'] === 'string' ? fields['message'] : JSON.stringify(error)
  // Status 200 leaves nothing to relay: even the caller's own mistake is told in our words.
  return (
    judgeStatus(status >= 400 && status < 600 ? status : 500, null, Buffer.from(text)) ?? {
      ...failed('invalid_request', quote(Buffer.from(text))),
      retryable: false,
      harmful: false,
    }
  )
}

/** The body of a complaint about the request: as the instance wrote it if in OpenAI's shape, else brought into it. */
export function shapeRefusal(body: Buffer): Buffer {
  try {
    const { error } = JSON.parse(body.toString('utf8')) as { error?: { message?: unknown } }
    if (typeof error?.message === 'string') return body
  } catch {
    // Cut off at its limit, or not JSON at all.
  }
  const message = quote(body) || 'The model instance refused the request and did not say why.'
  const error = { message, type: 'invalid_request_error', param: null, code: null }
  return Buffer.from(JSON.stringify({ error }))
}

/** `Retry-After` in seconds, as ms; null when there is none or it is a date, which would need two clocks to agree. */
export function readRetryAfterMs(value: string | null): number | null {
  if (value === null || !/^\d{1,9}$/.test(value.trim())) return null
  return Number(value) * 1000
}

/** The message of an error body, or the start of whatever it is, fit for one line. */
function quote(body: Buffer): string {
  let text = body.subarray(0, 8192).toString('utf8')
  try {
    const parsed = JSON.parse(text) as { error?: { message?: unknown } | string; message?: unknown }
    const inner = typeof parsed.error === 'object' ? parsed.error?.message : (parsed.error ?? parsed.message)
    if (typeof inner === 'string') text = inner
  } catch {
    // Not JSON: quoted as it is.
  }
  text = text.replaceAll(/[\u0000-\u001f\u007f]+/g, ' ').trim()
  const cut = text.length > quotedCharsMax ? `${text.slice(0, quotedCharsMax)}…` : text
  return cut.replace(/\.$/, '')
}
