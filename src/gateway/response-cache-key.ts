import { hash } from 'node:crypto'

type Fields = Readonly<Record<string, unknown>>

/**
 * Fields that say who asks and what for, and not what is asked: the answer does not come from them. An instance may
 * still complain about one, so complaints are shared only among calls that have them in common.
 */
const asideNames = ['metadata', 'prompt_cache_key', 'safety_identifier', 'store', 'user'] as const
/** Stand in the key in another form: the resolved model, and whether the answer is a stream. */
const replacedNames = ['model', 'stream', 'stream_options'] as const
const leftOut = new Set<string>([...asideNames, ...replacedNames])

/** Whether the caller can expect the same answer to the same call: temperature 0, a seed, or an embedding. */
export function isDeterministic(path: string, fields: Fields): boolean {
  const { temperature, seed } = fields
  return temperature === 0 || typeof seed === 'number' || path === '/embeddings'
}

/**
 * The key of a call's answer: tenant, route, model and where its answers come from, the form of the answer, and
 * all of the body that an answer depends on, whatever the order of its keys. Null when the body holds a number that is
 * not exact here: the instance may tell two of them apart that look the same to us.
 */
export function makeCacheKey(
  call: { path: string; stream: boolean; fields: Fields },
  from: { tenant: string; model: string; version: string },
): string | null {
  const { fields, stream } = call
  const place = [from.tenant, call.path, from.model, from.version, stream ? 'stream' : 'whole']
  const text = [JSON.stringify(place)]
  // `include_usage` is the relay's matter: streams are kept with their usage.
  const options = stream ? (fields['stream_options'] ?? {}) : null
  if (!writeCanonical(options, text, onlyUsage) || !writeCanonical(fields, text, leftOut)) return null
  return hash('sha256', text.join(''), 'base64url')
}

/** The fields that are not part of the key, as a text to compare. */
export function describeAsides(fields: Fields): string {
  return JSON.stringify(asideNames.map((name) => fields[name]))
}

const onlyUsage = new Set(['include_usage'])
const none = new Set<string>()

/** Writes a JSON value with the keys of its objects in order; false when it holds a number that is not exact. */
function writeCanonical(value: unknown, text: string[], without: ReadonlySet<string>): boolean {
  if (typeof value === 'number') {
    text.push(String(value))
    // Integers beyond 2^53 have been rounded, and what is too large to be a number has become infinite.
    return Math.abs(value) <= Number.MAX_SAFE_INTEGER
  }
  if (typeof value !== 'object' || value === null) {
    text.push(JSON.stringify(value))
    return true
  }
  if (Array.isArray(value)) {
    text.push('[')
    for (const item of value as unknown[]) {
      if (!writeCanonical(item, text, none)) return false
      text.push(',')
    }
    text.push(']')
    return true
  }
  text.push('{')
  for (const key of Object.keys(value).sort()) {
    if (without.has(key)) continue
    text.push(JSON.stringify(key), ':')
    if (!writeCanonical((value as Fields)[key], text, none)) return false
    text.push(',')
  }
  text.push('}')
  return true
}
