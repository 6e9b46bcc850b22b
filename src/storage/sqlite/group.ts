import type { Wake } from '../store.ts'
import type { Context } from './context.ts'
import { isRead, perform, type Call } from './operations.ts'

/**
 * `unavailable`: the fault is the store's and not the call's, and a later try may succeed. `io`: the disk failed under
 * the connection, which must not be trusted after that.
 */
export type Answer = { value: unknown } | { error: { message: string; unavailable: boolean; io: boolean } }

/** One message of calls, answered together. */
export function runGroup(context: Context, calls: readonly Call[]): { answers: Answer[]; wakes: Wake[] } {
  if (calls.every(isRead)) return { answers: calls.map((call) => runRead(context, call)), wakes: [] }
  try {
    const values = context.transact(() => calls.map((call) => perform(context, call)))
    return { answers: values.map((value) => ({ value })), wakes: context.wakes.take() }
  } catch (error) {
    if (calls.length === 1) return { answers: [toFailure(error)], wakes: [] }
    // Not the fault of one of them, and each would have to wait as long again. What only reads is answered.
    if (concernsAll(error)) {
      const failure = toFailure(error)
      const answers = calls.map((call) => (isRead(call) ? runRead(context, call) : failure))
      return { answers, wakes: [] }
    }
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

const busy = 5
const ioError = 10

const concernsAll = (error: unknown) => [busy, ioError].includes(primaryCode(error) ?? 0)

/** SQLite's own code without what it adds in detail; null for an error of another origin. */
function primaryCode(error: unknown): number | null {
  const { errcode } = error as { errcode?: number }
  return errcode === undefined ? null : errcode & 0xff
}

function toFailure(error: unknown): Answer {
  const code = primaryCode(error)
  const unavailable = code !== null && unavailableCodes.has(code)
  return { error: { message: (error as Error).message, unavailable, io: code === ioError } }
}
