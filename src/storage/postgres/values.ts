/**
 * Rows on their way to the server: one parameter of JSON for a whole batch, which `json_to_recordset` takes apart.
 * PostgreSQL has no NUL in a text, and no half of a surrogate pair; both are replaced.
 */
export function toRows(rows: readonly Record<string, unknown>[]): string {
  const text = JSON.stringify(rows)
  return unstorable.test(text) ? JSON.stringify(rows, (_, value: unknown) => clean(value)) : text
}

/** JSON escapes only these: NUL and lone surrogates. */
const unstorable = /\\u(?:0000|d[89a-f])/i

function clean(value: unknown): unknown {
  if (typeof value === 'string') return toStorable(value)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [toStorable(key), inner]))
}

/** As PostgreSQL keeps it: what looks for a text must ask for this form of it. */
export const toStorable = (text: string): string =>
  (text.isWellFormed() ? text : text.toWellFormed()).replaceAll('\0', '\uFFFD')

/** Many byte strings as one binary parameter, and where each lies in it: `substring` counts from 1. */
export function packBytes(pieces: readonly (Uint8Array | null)[]): {
  bytes: Buffer
  places: { from: number | null; length: number | null }[]
} {
  let from = 1
  const places = pieces.map((piece) => {
    if (piece === null) return { from: null, length: null }
    const place = { from, length: piece.byteLength }
    from += piece.byteLength
    return place
  })
  return { bytes: Buffer.concat(pieces.filter((piece) => piece !== null)), places }
}

/** Cuts a list so that no part has more than `bytesMax` bytes, unless a single item has. */
export function splitByBytes<T>(items: readonly T[], bytesOf: (item: T) => number, bytesMax: number): T[][] {
  const parts: T[][] = []
  let bytes = Infinity
  for (const item of items) {
    const size = bytesOf(item)
    if (bytes + size > bytesMax) {
      parts.push([])
      bytes = 0
    }
    parts.at(-1)?.push(item)
    bytes += size
  }
  return parts
}
