import { nameBand, readPayload, type StepWork } from '../queue/task.ts'
import type { TaskDetail, TaskError, TaskEvent, TaskRow, TaskUsage } from '../storage/task-store.ts'

/** OpenAI's objects give times in whole Unix seconds. */
const toSeconds = (ms: number | null): number | null => (ms === null ? null : Math.floor(ms / 1000))

/** The order of a history is worth its milliseconds. */
const toExactSeconds = (ms: number): number => Math.round(ms) / 1000

const describeError = (error: TaskError | null) =>
  error === null ? null : { code: error.code, message: error.message }

function describeUsage(usage: TaskUsage | null) {
  if (usage === null) return null
  const { promptTokens, completionTokens, cachedTokens } = usage
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
  }
}

/** A task as the API shows it: what fits into a list. */
export function describeTask(row: TaskRow) {
  return {
    id: row.id,
    object: 'task' as const,
    status: row.status,
    endpoint: row.endpoint,
    model: row.model,
    priority: nameBand(row.band),
    attempts: row.attempt,
    max_attempts: row.attemptsMax,
    created_at: toSeconds(row.createdAtMs),
    run_at: toSeconds(row.runAtMs),
    deadline: toSeconds(row.deadlineMs),
    started_at: toSeconds(row.startedAtMs),
    finished_at: toSeconds(row.finishedAtMs),
    // After its end, the status says what became of the wish.
    cancel_requested: row.status === 'running' && row.cancelRequested,
    batch: row.parent,
    metadata: row.metadata,
    error: describeError(row.error),
    usage: describeUsage(row.usage),
  }
}

/** One entry of the history, and what `event: state` carries. */
export function describeEvent(event: TaskEvent) {
  return {
    seq: event.seq,
    at: toExactSeconds(event.atMs),
    status: event.status,
    attempt: event.attempt,
    error: describeError(event.error),
    instance: event.instance,
  }
}

/** A task with its history and its result; with `showsBody`, also what it was asked to do. */
export function describeDetail(detail: TaskDetail, options: { showsBody: boolean }) {
  const { work, webhook } = readPayload(detail.payload)
  const isSequence = work.endpoint === 'sequence'
  return {
    ...describeTask(detail.task),
    result: parseResult(detail.result),
    ...(isSequence ? { steps: describeSteps(work.steps, detail, options) } : {}),
    history: detail.history.map(describeEvent),
    ...(options.showsBody ? { ...(isSequence ? {} : { body: work.body }), webhook } : {}),
  }
}

/** Every step of a sequence in its order, those that have no result yet too. */
function describeSteps(
  steps: readonly StepWork[],
  detail: TaskDetail,
  { showsBody }: { showsBody: boolean },
) {
  const kept = new Map(detail.steps.map((step) => [step.step, step]))
  return steps.map(({ name, endpoint, body }, index) => {
    const done = kept.get(index)
    return {
      name,
      endpoint,
      attempt: done?.attempt ?? null,
      result: parseResult(done?.result ?? null),
      ...(showsBody ? { body } : {}),
    }
  })
}

function parseResult(bytes: Uint8Array | null): unknown {
  if (bytes === null) return null
  return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'))
}
