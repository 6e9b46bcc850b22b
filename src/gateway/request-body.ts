import type { IncomingMessage } from 'node:http'
import { fail, type ApiError } from '../core/errors.ts'

const noBody: Buffer = Buffer.alloc(0)
const jsonType = /^application\/json\s*(;|$)/i

/**
 * Collects the body of a request, as the bytes that came; calls `done` once, with an error of the table when it is
 * not JSON by its own account or longer than `bytesMax`. Never calls it when the client hangs up before the end.
 */
export function readBody(
  request: IncomingMessage,
  bytesMax: number,
  done: (error: ApiError | null, body: Buffer) => void,
): void {
  const refusal = judgeHead(request, bytesMax)
  if (refusal) return done(refusal, noBody)
  let length = 0
  let first = noBody
  let rest: Buffer[] | null = null
  request.on('data', (chunk: Buffer) => {
    length += chunk.length
    if (length > bytesMax) {
      request.removeAllListeners('data').removeAllListeners('end')
      return done(fail('body_too_large'), noBody)
    }
    // Nearly every body comes in one piece.
    if (first === noBody) first = chunk
    else (rest ??= [first]).push(chunk)
  })
  request.on('end', () => {
    const body = rest ? Buffer.concat(rest, length) : first
    // The listeners stay for as long as the answer takes: they must not keep the bytes.
    first = noBody
    rest = null
    done(null, body)
  })
}

function judgeHead({ headers }: IncomingMessage, bytesMax: number): ApiError | null {
  if (!jsonType.test(headers['content-type'] ?? '')) {
    return fail('unsupported_media_type', {
      message: 'Send the body as JSON, with `content-type: application/json`.',
    })
  }
  if ((headers['content-encoding'] ?? 'identity') !== 'identity') {
    return fail('unsupported_media_type', { message: 'Send the body as it is, without a content-encoding.' })
  }
  return Number(headers['content-length'] ?? 0) > bytesMax ? fail('body_too_large') : null
}
