import type { IncomingMessage } from 'node:http'
import { fail } from '../src/core/errors.ts'
import type { Body } from './call.ts'
import { isObject } from './parameters.ts'

/**
 * Reads the whole body of a request.
 * @throws body_too_large, unsupported_media_type, invalid_json.
 */
export async function readBody(
  request: IncomingMessage,
  limits: { bodyBytesMax: number; jsonDepthMax: number },
): Promise<Body> {
  const type = request.headers['content-type']
  if (type !== undefined && !/^application\/(?:[\w.-]+\+)?json\b/i.test(type))
    throw fail('unsupported_media_type')
  const bytes = await readBytes(request, limits.bodyBytesMax)
  if (depthOf(bytes) > limits.jsonDepthMax) {
    throw fail('invalid_json', { message: `The body is nested deeper than ${limits.jsonDepthMax} levels.` })
  }
  let body: unknown
  try {
    body = JSON.parse(bytes.toString('utf8'))
  } catch (error) {
    throw fail('invalid_json', { message: `The body is not JSON: ${(error as Error).message}.` })
  }
  if (!isObject(body)) throw fail('invalid_json', { message: 'The body must be a JSON object.' })
  return body
}

async function readBytes(request: IncomingMessage, bytesMax: number): Promise<Buffer> {
  const tooLarge = () =>
    fail('body_too_large', { message: `The body is larger than the limit of ${bytesMax} bytes.` })
  if (Number(request.headers['content-length'] ?? 0) > bytesMax) throw tooLarge()
  const chunks: Buffer[] = []
  let length = 0
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      length += chunk.length
      if (length > bytesMax) throw tooLarge()
      chunks.push(chunk)
    }
  } catch (error) {
    // The caller hung up in the middle: no fault of this server.
    if ((error as NodeJS.ErrnoException).code === 'ECONNRESET') throw fail('client_closed', { cause: error })
    throw error
  }
  return chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)
}

const [quote, backslash, openBrace, openBracket, closeBrace, closeBracket] = [
  0x22, 0x5c, 0x7b, 0x5b, 0x7d, 0x5d,
]

/** Deepest nesting of a JSON text, found without parsing it: a parser could be made to use up the stack. */
export function depthOf(bytes: Buffer): number {
  let depth = 0
  let deepest = 0
  let inText = false
  for (let i = 0; i < bytes.length; i += 1) {
    const byte = bytes[i]
    if (inText) {
      if (byte === backslash) i += 1
      else if (byte === quote) inText = false
    } else if (byte === quote) inText = true
    else if (byte === openBrace || byte === openBracket) {
      depth += 1
      if (depth > deepest) deepest = depth
    } else if (byte === closeBrace || byte === closeBracket) depth -= 1
  }
  return deepest
}
