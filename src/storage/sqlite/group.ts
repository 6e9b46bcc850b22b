import type { Wake } from '../store.ts'
import type { Context } from './context.ts'
import { isRead, perform, type Call } from './operations.ts'

/** `unavailable`: the fault is the store's and not the call's, and a later try may succeed. */
export type Answer = { value: unknown } | { error: { message: string; unavailable: boolean } }

/** One message of calls, answered together. */
export function runGroup(context: Context, calls: readonly Call[]): { answers: Answer[]; wakes: Wake[] } {
  if (calls.every(isRead)) return { answers: calls.map((call) => runRead(context, call)), wakes: [] }
  try {
    const values = context.transact(() => calls.map((call) => perform(context, call)))
    return { answers: values.map((value) => ({ value })), wakes: context.wakes.take() }
  } catch (error) {
    if (calls.length === 1) return { answers: [toFailure(error)], wakes: [] }
  }
  // One of them failed, and took the others with it: each for itself, so that only the bad one fails.
  const alone = calls.map((call) => runGroup(context, [call]))
  return { answers: alone.flatMap(({ answers }) => answers), wakes: alone.flatMap(({ wakes }) => wakes) }
}

function runRead(context: Context, call: Call): Answer {
  try {
    return { value: perform(context, call) }
  } catch (error) {
    return toFailure(error)
  }
}

/** The primary result codes of SQLite that speak of the disk or of another process, not of what was asked. */
const unavailableCodes: ReadonlySet<number> = new Set([
  5, // SQLITE_BUSY
  6, // SQLITE_LOCKED
  7, // SQLITE_NOMEM
  8, // SQLITE_READONLY
  10, // SQLITE_IOERR
  11, // SQLITE_CORRUPT
  13, // SQLITE_FULL
  14, // SQLITE_CANTOPEN
  26, // SQLITE_NOTADB
])

export function toFailure(error: unknown): Answer {
  const { message, errcode } = error as Error & { errcode?: number }
  const unavailable = errcode !== undefined && unavailableCodes.has(errcode & 0xff)
  return { error: { message, unavailable } }
}
