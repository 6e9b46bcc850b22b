import { errorTable, type ApiError } from '../../core/errors.ts'

/** What becomes of a message, after what became of its task. */
export type Verdict =
  /** The task is stored: the broker may forget the message. */
  | { kind: 'accept' }
  /** No delivery will do better: to the dead letters, with the reason. */
  | { kind: 'bury' }
  /** No fault of the message's: kept here unacknowledged and tried again, which uses up no delivery. */
  | { kind: 'hold'; delayMs: number }
  /** Perhaps later: back to the broker after a pause, which counts its deliveries and ends it when they are too many. */
  | { kind: 'give_back'; delayMs: number }

/** What waits here may go as soon as there is room: it asks more often than a caller is told to. */
const holdMs = { min: 1_000, max: 5_000 } as const
const giveBackMs = 5_000

/** Null stands for a stored task; `isLast` for a message that was delivered as often as is allowed. */
export function judge(error: ApiError | null, isLast: boolean): Verdict {
  if (error === null) return { kind: 'accept' }
  const { code, retryAfterMs } = error
  if (code === 'queue_full' || code === 'storage_unavailable' || code === 'shutting_down') {
    return { kind: 'hold', delayMs: Math.min(holdMs.max, Math.max(holdMs.min, retryAfterMs ?? 0)) }
  }
  // A model may be served in a moment, while a fleet starts; a fault of ours may be mended by a restart.
  const isPassing = code === 'model_not_found' || errorTable[code].retryable
  return isPassing && !isLast ? { kind: 'give_back', delayMs: giveBackMs } : { kind: 'bury' }
}

const firstDelayMs = 500
const delayMsMax = 30_000

/** Between two attempts to reach a broker: 0.5 s, 1 s, 2 s, … up to 30 s, of which the half is left to chance. */
export function reconnectDelayMs(failures: number, chance: number): number {
  const wholeMs = Math.min(firstDelayMs * 2 ** Math.min(failures - 1, 16), delayMsMax)
  return Math.round(wholeMs * (0.5 + chance / 2))
}
