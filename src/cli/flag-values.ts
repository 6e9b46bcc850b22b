import { SetupError } from '../core/errors.ts'

/** What people write behind a flag, read. Each throws a SetupError that names the flag. */

const unitsMs = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const

/** `90s`, `10m`, `2h`, `1d`; null for anything else. */
export function readSpanMs(text: string): number | null {
  const [, count, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? []
  return count === undefined ? null : Number(count) * unitsMs[unit as keyof typeof unitsMs]
}

/** A span such as `2h` from now; anything else is left to the server: Unix seconds, or ISO 8601. */
export function readTime(flag: string, text: string, nowMs: number): number | string {
  const spanMs = readSpanMs(text.replace(/^\+/, ''))
  if (spanMs !== null) return Math.ceil((nowMs + spanMs) / 1000)
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text)
  if (/^\d{4}-\d\d-\d\d/.test(text)) return text
  throw new SetupError(
    `${flag} ${text} is not allowed; a time such as 2026-01-31T18:00:00Z, or 10m, 2h, 1d from now`,
  )
}

export function readWhole(flag: string, text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text)
  throw new SetupError(`${flag} ${text} is not allowed; a whole number`)
}

/** `k=v` pairs; a value may hold further `=`. */
export function readPairs(pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=')
      if (at < 1) throw new SetupError(`--metadata ${pair} is not allowed; a pair such as run=7`)
      return [pair.slice(0, at), pair.slice(at + 1)]
    }),
  )
}
