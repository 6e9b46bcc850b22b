import { errorTable, type ApiError } from '../core/errors.ts'
import type { AttemptOutcome, TaskError } from '../storage/task-store.ts'
import { backoffMs, type BackoffRules } from './backoff.ts'
import { AnswerRefused } from './refused.ts'

/** What is kept of an error's message. */
const messageCharsMax = 2_000

type FailedAttempt = {
  error: ApiError
  attempt: number
  attemptsMax: number
  deadlineMs: number | null
  nowMs: number
}

/** What follows from an attempt that failed. */
export function judgeAttempt(
  failed: FailedAttempt,
  rules: BackoffRules,
  random: () => number,
): AttemptOutcome {
  const { error, attempt, nowMs, deadlineMs } = failed
  // Something that the attempt needed is stopping with this process: that is no attempt of the task's.
  if (error.code === 'shutting_down') return { kind: 'released' }
  const told = describeError(error)
  if (!errorTable[error.code].retryable || attempt >= failed.attemptsMax) {
    return { kind: 'dead', error: told, ...(error instanceof AnswerRefused ? { result: error.answer } : {}) }
  }
  const delayMs = backoffMs({ attempt, retryAfterMs: error.retryAfterMs }, rules, random)
  // A wait beyond the deadline would only hide until then that it is over.
  const runAtMs = Math.min(nowMs + delayMs, deadlineMs ?? Infinity)
  return { kind: 'retry', error: told, runAtMs }
}

const describeError = (error: ApiError): TaskError => ({
  code: error instanceof AnswerRefused ? error.upstreamCode : error.code,
  message: error.message.slice(0, messageCharsMax),
})
