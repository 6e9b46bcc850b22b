import type { LeaseState, SettleOutcome, Settlement, TaskStep } from '../task-store.ts'
import type { TaskStatus } from '../task-states.ts'
import type { Context } from './context.ts'
import { findRunning, keepError, keepResult, move, type Move, type MoveRow } from './move.ts'
import { reasons } from '../reasons.ts'

export const settle = (context: Context, settlements: readonly Settlement[]): SettleOutcome[] =>
  settlements.map((settlement) => settleOne(context, settlement))

function settleOne(context: Context, settlement: Settlement): SettleOutcome {
  const row = findRunning(context, settlement.id, settlement.attempt)
  if (!row) return { kind: 'lost' }
  return { kind: 'settled', status: end(context, row, settlement) }
}

function end(context: Context, row: MoveRow, { outcome, nowMs: atMs, instance }: Settlement): TaskStatus {
  const to = (status: TaskStatus, more: Partial<Move> = {}) => {
    move(context, row, { to: status, atMs, instance, ...more })
    return status
  }
  const { kind } = outcome
  if ((kind === 'retry' || kind === 'released') && row.cancel_requested === 1) {
    if (kind === 'retry') keepError(context, row.n, outcome.error)
    return to('cancelled', { error: reasons.cancelled })
  }
  switch (kind) {
    case 'succeeded':
      keepResult(context, row.n, outcome.result, outcome.usage)
      return to('succeeded')
    case 'dead':
      keepError(context, row.n, outcome.error, outcome.result)
      return to('dead', { error: outcome.error })
    case 'retry': {
      keepError(context, row.n, outcome.error)
      const { error, runAtMs } = outcome
      return to(runAtMs > atMs ? 'delayed' : 'queued', { error, runAtMs })
    }
    // The number of an attempt is never used twice: one more is allowed in place of the one given back.
    case 'released':
      return to('queued', { attemptsMax: row.attempts_max + 1, keepAge: true })
    case 'cancelled':
      return to('cancelled', { error: reasons.cancelled })
    case 'expired':
      keepError(context, row.n, reasons.expired)
      return to('expired', { error: reasons.expired })
  }
}

export function renew(
  context: Context,
  leases: readonly { id: string; attempt: number }[],
  leaseUntilMs: number,
): LeaseState[] {
  return leases.map(({ id, attempt }) => {
    const row = context
      .sql(
        'UPDATE tasks SET lease_until = ? WHERE id = ? AND status = 2 AND attempt = ? RETURNING cancel_requested',
      )
      .get(leaseUntilMs, id, attempt) as { cancel_requested: number } | undefined
    if (!row) return 'lost'
    return row.cancel_requested === 1 ? 'cancelled' : 'held'
  })
}

export function saveStep(context: Context, id: string, attempt: number, step: TaskStep): boolean {
  const row = findRunning(context, id, attempt)
  if (!row) return false
  context
    .sql(
      `INSERT INTO steps (n, step, attempt, result) VALUES (?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET attempt = excluded.attempt, result = excluded.result`,
    )
    .run(row.n, step.step, step.attempt, step.result)
  return true
}
