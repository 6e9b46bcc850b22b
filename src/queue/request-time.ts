import { fail } from '../core/errors.ts'

/** With the zone written out: a time without one would mean another moment on every machine. */
const isoTime = /^(\d{4})-(\d\d)-(\d\d)T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)$/

/** The year 5138 in seconds, and 1973 in milliseconds: whoever writes a larger number means milliseconds. */
const secondsMax = 100_000_000_000

/** A time as unix seconds (1767225600) or as ISO 8601 text; null when it is left out. Throws invalid_request, naming `param`. */
export function readTimeMs(value: unknown, param: string): number | null {
  if (value === undefined || value === null) return null
  const timeMs =
    typeof value === 'number'
      ? fromSeconds(value)
      : typeof value === 'string' && isDate(value)
        ? Date.parse(value)
        : NaN
  if (Number.isFinite(timeMs)) return timeMs
  const found = (JSON.stringify(value) ?? 'nothing').slice(0, 100)
  throw fail('invalid_request', {
    message: `\`${param}\` must be unix seconds or a time such as "2026-01-31T18:00:00Z"; it is ${found}.`,
    param,
  })
}

function fromSeconds(seconds: number): number {
  return seconds >= 0 && seconds < secondsMax ? Math.round(seconds * 1000) : NaN
}

/** Whether the day is one of the calendar: `Date.parse` takes the 30th of February for the 2nd of March. */
function isDate(text: string): boolean {
  const found = isoTime.exec(text)
  if (!found) return false
  const [year, month, day] = found.slice(1, 4).map(Number) as [number, number, number]
  const date = new Date(Date.UTC(year, month - 1, day))
  return date.getUTCMonth() === month - 1 && date.getUTCDate() === day
}
