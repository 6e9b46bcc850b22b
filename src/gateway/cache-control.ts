/** What a caller allows a cache to do for one call. */
export type CacheWish = {
  /** An answer that is there may be used. */
  reads: boolean
  /** The answer may be kept. */
  writes: boolean
  /** The caller asks for a cached answer, whether or not the call is deterministic: no older than this. */
  maxAgeMs: number | null
}

const asUsual: CacheWish = { reads: true, writes: true, maxAgeMs: null }
/** A header line longer than any sensible one is not read through. */
const charsMax = 1024
const ageSecondsMax = 2_147_483_648

/**
 * Reads `Cache-Control` of a request: `no-store`, `no-cache` and `max-age=N`; the strictest counts. Directives that
 * are unknown, or say nothing that can be understood, change nothing, as RFC 9111 has it. `max-age=0` is `no-cache`.
 */
export function readCacheControl(header: string | undefined): CacheWish {
  if (header === undefined) return asUsual
  let { reads, writes, maxAgeMs } = asUsual
  for (const part of header.slice(0, charsMax).split(',')) {
    const directive = part.trim().toLowerCase()
    if (directive === 'no-store') writes = false
    else if (directive === 'no-cache' || directive.startsWith('no-cache=')) reads = false
    else {
      const seconds = /^max-age="?(\d+)"?$/.exec(directive)?.[1]
      if (seconds === undefined) continue
      const ageMs = Math.min(Number(seconds), ageSecondsMax) * 1000
      maxAgeMs = maxAgeMs === null ? ageMs : Math.min(maxAgeMs, ageMs)
    }
  }
  if (maxAgeMs === 0) reads = false
  return { reads: reads && writes, writes, maxAgeMs: reads && writes ? maxAgeMs : null }
}
