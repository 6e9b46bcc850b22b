import { StoreUnavailable } from '../store.ts'

/**
 * What an error of the driver says about the statement that met it.
 * - `lost`: the connection is gone or silent; whether the statement was committed is unknown.
 * - `conflict`: rolled back for another transaction's sake; the same statement may succeed now.
 * - `refused`: rolled back because the server can't do it now.
 * - `fault`: anything else, a mistake of this program.
 */
type FailureKind = 'lost' | 'conflict' | 'refused' | 'fault'

/** Serialisation failure and deadlock. */
const conflicts = new Set(['40001', '40P01'])
/** Statement timeout, lock timeout, a server that is read-only after a failover, I/O error, damaged pages. */
const refusals = new Set(['57014', '55P03', '25006', '58030'])

export function judgeFailure(error: unknown): FailureKind {
  const code = readCode(error)
  if (code === null) {
    // A TypeError comes from our own values; whatever else has no SQLSTATE comes from the socket.
    return error instanceof TypeError || error instanceof RangeError ? 'fault' : 'lost'
  }
  if (conflicts.has(code) || isKeyTaken(error)) return 'conflict'
  // 53: out of disk, memory or connections.
  if (refusals.has(code) || code.startsWith('53')) return 'refused'
  // 08: connection exception. 57P: shutdown, crash, cannot connect now, termination by an administrator, idle session.
  // 25P03: the server ended a session that had fallen silent within a transaction.
  if (code.startsWith('08') || code.startsWith('57P') || code === '25P03') return 'lost'
  return 'fault'
}

/** The SQLSTATE, or null for an error that the server did not send. */
export function readCode(error: unknown): string | null {
  const code = (error as { code?: unknown } | null)?.code
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) && 'severity' in (error as object)
    ? code
    : null
}

/** Another process took the same idempotency key at the same moment: the next look finds its task. */
const isKeyTaken = (error: unknown) =>
  readCode(error) === '23505' && (error as { constraint?: string }).constraint === 'idempotency_pkey'

export function toUnavailable(error: unknown): StoreUnavailable {
  if (error instanceof StoreUnavailable) return error
  const text = error instanceof Error ? error.message : String(error)
  return new StoreUnavailable(`PostgreSQL can't do this now: ${text}`, { cause: error })
}
