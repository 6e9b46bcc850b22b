/** An answer as it is kept: what a client needs to get it again. The body is bytes that nobody here looks into. */
export type CachedAnswer = {
  status: number
  contentType: string
  /** Whether the body is the events of a stream. */
  isStream: boolean
  /** The model that gave it, and the instance. */
  model: string
  instance: string
  body: Buffer
}

/** Counted up when the form changes: what an older program has written is then not there for a newer one. */
const formVersion = 1
const prefixBytes = 5
const headBytesMax = 64 * 1024

/** `version (1 byte), length of the head (4), head as JSON, body` */
export function encodeAnswer({ body, ...head }: CachedAnswer): Buffer {
  const headBytes = Buffer.from(JSON.stringify(head))
  const prefix = Buffer.alloc(prefixBytes)
  prefix.writeUInt8(formVersion, 0)
  prefix.writeUInt32BE(headBytes.length, 1)
  return Buffer.concat([prefix, headBytes, body])
}

/** The answer in these bytes; null when they are something else, or of another version. */
export function decodeAnswer(value: Uint8Array): CachedAnswer | null {
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength)
  if (bytes.length < prefixBytes || bytes[0] !== formVersion) return null
  const bodyAt = prefixBytes + bytes.readUInt32BE(1)
  if (bodyAt > bytes.length || bodyAt > headBytesMax) return null
  try {
    const head = JSON.parse(bytes.toString('utf8', prefixBytes, bodyAt)) as Partial<CachedAnswer> | null
    const { status, contentType, isStream, model, instance } = head ?? {}
    if (!Number.isInteger(status) || typeof isStream !== 'boolean') return null
    if (typeof contentType !== 'string' || typeof model !== 'string' || typeof instance !== 'string')
      return null
    return { status: status as number, contentType, isStream, model, instance, body: bytes.subarray(bodyAt) }
  } catch {
    return null
  }
}
