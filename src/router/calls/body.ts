import { fail } from '../../core/errors.ts'
import { endOfString, skipSpace } from '../../core/json.ts'

/** A JSON object as the caller sent it. */
export type Fields = Record<string, unknown>

/** Parses a body strictly: one JSON object, no deeper than `depthMax`. Throws invalid_json. */
export function parseBody(body: Buffer, depthMax: number): Fields {
  let value: unknown
  try {
    value = JSON.parse(body.toString('utf8'))
  } catch (error) {
    // The parser's message may quote the body; only the position is passed on.
    const position = /position \d+( \(line \d+ column \d+\))?/.exec(String(error))?.[0]
    throw fail('invalid_json', { message: `The body is not valid JSON${position ? ` at ${position}` : ''}.` })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw fail('invalid_json', { message: 'The body must be a JSON object.' })
  }
  if (isDeeperThan(value, depthMax)) {
    throw fail('invalid_json', { message: `The body is nested deeper than ${depthMax} levels.` })
  }
  return value as Fields
}

function isDeeperThan(value: object, levels: number): boolean {
  if (levels === 0) return true
  if (Array.isArray(value)) {
    // A prompt of token ids is one long array of numbers.
    for (const item of value as unknown[]) {
      if (typeof item === 'object' && item !== null && isDeeperThan(item, levels - 1)) return true
    }
    return false
  }
  for (const key in value) {
    const item = (value as Fields)[key]
    if (typeof item === 'object' && item !== null && isDeeperThan(item, levels - 1)) return true
  }
  return false
}

const openBrace = 0x7b
const quote = 0x22
const askForUsage = Buffer.from('"stream_options":{"include_usage":true},')

/**
 * The body with the usage of a stream asked for. The caller's bytes stay as they are; a few go in front of them.
 * What can't be done that way (the caller has `stream_options` of its own) is written anew from `fields`.
 */
export function askUsage(body: Buffer, fields: Fields): Buffer {
  if (Object.hasOwn(fields, 'stream_options')) {
    const own = fields['stream_options']
    const options = typeof own === 'object' && own !== null ? own : {}
    return Buffer.from(JSON.stringify({ ...fields, stream_options: { ...options, include_usage: true } }))
  }
  const start = body.indexOf(openBrace) + 1
  return Buffer.concat([body.subarray(0, start), askForUsage, body.subarray(start)])
}

/** The body with another `model`: only the bytes of that value change. */
export function replaceModel(body: Buffer, model: string): Buffer {
  const value = findTopLevelValue(body, '"model"')
  const replacement = Buffer.from(JSON.stringify(model))
  if (value) return Buffer.concat([body.subarray(0, value.start), replacement, body.subarray(value.end)])
  // The key is there, but written with escapes or twice.
  return Buffer.from(JSON.stringify({ ...(JSON.parse(body.toString('utf8')) as Fields), model }))
}

/**
 * Where the string value of a key of the outermost object stands, quotes included. `body` must be valid JSON. Null
 * when there is none or more than one: then the bytes do not say which one counts.
 */
function findTopLevelValue(body: Buffer, key: string): { start: number; end: number } | null {
  let found: { start: number; end: number } | null = null
  let depth = 0
  for (let at = 0; at < body.length; at += 1) {
    const byte = body[at]
    if (byte === openBrace || byte === 0x5b) depth += 1
    else if (byte === 0x7d || byte === 0x5d) depth -= 1
    else if (byte === quote) {
      const end = endOfString(body, at)
      const isKey = depth === 1 && end - at === key.length && body.toString('latin1', at, end) === key
      at = end - 1
      if (!isKey) continue
      const colon = skipSpace(body, end)
      // A value may look like the key: only a key has a colon behind it.
      if (body[colon] !== 0x3a) continue
      const start = skipSpace(body, colon + 1)
      if (found || body[start] !== quote) return null
      found = { start, end: endOfString(body, start) }
      at = found.end - 1
    }
  }
  return found
}
