import { strict as assert } from 'node:assert'
import type { TaskEndpoint } from '../task.ts'
import type { LineError } from './batch-line.ts'

/** OpenAI's states of a batch, and every way from one to another. */
export const batchTransitions = {
  validating: ['in_progress', 'failed', 'cancelling'],
  in_progress: ['finalizing', 'cancelling'],
  finalizing: ['completed', 'expired'],
  cancelling: ['cancelled'],
  completed: [],
  failed: [],
  expired: [],
  cancelled: [],
} as const satisfies Record<string, readonly string[]>

export type BatchStatus = keyof typeof batchTransitions

/** A file of results; one without lines is never published. */
type ResultFile = { id: string; bytes: number; lines: number }

/** A batch as its document keeps it. */
export type Batch = {
  id: string
  tenant: string
  /** The key by which it was created, for the usage; left out where there was none. */
  keyId?: string
  endpoint: TaskEndpoint
  inputFileId: string
  completionWindow: string
  metadata: Readonly<Record<string, string>> | null
  band: number
  /** How long the files of results are kept; null for the configured time. */
  outputKeepMs: number | null
  status: BatchStatus
  /** When it came into each state, in ms since the epoch. */
  atMs: Readonly<Partial<Record<BatchStatus, number>>>
  expiresAtMs: number
  /** The first of the lines that are bad, or why the whole batch failed. */
  errors: readonly (LineError & { line: number | null })[]
  /** Lines of the input; 0 until it has been read. */
  lines: { total: number; bad: number; refused: number }
  /** Where each line lies: the blob and its pieces; null until the input has been read. */
  index: { id: string; pieces: number } | null
  /** Pieces of the index whose lines are tasks. */
  fed: number
  /** The files of results, once all their bytes are on disk. `unfinished` lines ran out of time. */
  results: { unfinished: number; output: ResultFile; errors: ResultFile } | null
  /** Blobs that are being written, or that an interrupted attempt left behind. */
  scraps: readonly string[]
  /** The last counts, once it is over; before that they are counted in the store. */
  counts: { completed: number; failed: number } | null
  usage: { promptTokens: number; completionTokens: number; cachedTokens: number } | null
  /** Who works on it, until when: one process at a time. */
  lease: { owner: string; untilMs: number } | null
}

/** Whether work is left to do. */
export const isOpen = (status: BatchStatus): boolean => batchTransitions[status].length > 0

/** The batch in another state. An impossible way is a bug and throws. */
export function moveBatch(batch: Batch, status: BatchStatus, nowMs: number): Batch {
  const ways = batchTransitions[batch.status] as readonly BatchStatus[]
  assert(ways.includes(status), `a batch went from ${batch.status} to ${status}`)
  return { ...batch, status, atMs: { ...batch.atMs, [status]: nowMs } }
}

/** What is to be done next for a batch. */
type BatchStep =
  /** Read the input and note where its lines are. */
  | { kind: 'validate' }
  /** Make tasks of further lines, at most `room` of them. */
  | { kind: 'feed'; room: number }
  /** Go on to writing the results. */
  | { kind: 'finalize' }
  /** Nobody waits for the tasks that still live. */
  | { kind: 'cancel_tasks' }
  | { kind: 'write' }
  | { kind: 'publish' }
  /** Until tasks end, or time passes. */
  | { kind: 'wait' }
  | { kind: 'none' }

/** Decides the next step from the batch, the number of its tasks that wait or run, and the time. */
export function nextStep(batch: Batch, liveTasks: number, nowMs: number, liveTasksMax: number): BatchStep {
  const isLate = nowMs >= batch.expiresAtMs
  switch (batch.status) {
    case 'validating':
      return { kind: 'validate' }
    case 'in_progress': {
      if (isLate) return { kind: 'finalize' }
      const room = liveTasksMax - liveTasks
      if (batch.fed < (batch.index?.pieces ?? 0)) return room > 0 ? { kind: 'feed', room } : { kind: 'wait' }
      return liveTasks > 0 ? { kind: 'wait' } : { kind: 'finalize' }
    }
    case 'finalizing':
    case 'cancelling':
      if (batch.results) return { kind: 'publish' }
      if (liveTasks === 0) return { kind: 'write' }
      // Before its time is up a task lives on only when somebody had it done again: that one is waited for.
      return batch.status === 'cancelling' || isLate ? { kind: 'cancel_tasks' } : { kind: 'wait' }
    case 'completed':
    case 'failed':
    case 'expired':
    case 'cancelled':
      return { kind: 'none' }
  }
}

/** How a batch whose results are written ends. */
export function endOf(batch: Batch): 'completed' | 'expired' | 'cancelled' {
  if (batch.status === 'cancelling') return 'cancelled'
  return batch.results && batch.results.unfinished > 0 ? 'expired' : 'completed'
}
