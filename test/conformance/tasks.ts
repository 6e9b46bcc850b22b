import { strict as assert } from 'node:assert'
import type { Store } from '../../src/storage/store.ts'
import type {
  AttemptOutcome,
  ClaimedTask,
  ClaimRequest,
  NewTask,
  QueueLimits,
  TaskRow,
} from '../../src/storage/task-store.ts'
import { makeTaskId } from '../../src/storage/task-id.ts'

/** When the tests begin. A store reads no clock: all times are said. */
export const startMs = Date.UTC(2026, 0, 1)

export const noLimits: QueueLimits = {
  tenantTasksMax: 1e9,
  tenantBytesMax: 1e12,
  tasksMax: 1e9,
  bytesMax: 1e12,
}

export const bytes = (text: string): Uint8Array => Buffer.from(text)
export const text = (bytes: Uint8Array | null | undefined): string | null =>
  bytes ? Buffer.from(bytes).toString() : null

/** A plain task, but for what is given. Ids are in the order of the calls. */
export const newTask = (more: Partial<NewTask> = {}): NewTask => ({
  id: makeTaskId('task', startMs),
  tenant: 'acme',
  endpoint: '/v1/chat/completions',
  model: 'm',
  band: 50,
  cost: 1,
  createdAtMs: startMs,
  runAtMs: null,
  deadlineMs: null,
  attemptsMax: 3,
  parent: null,
  position: null,
  idempotencyKey: null,
  fingerprint: null,
  metadata: {},
  notify: false,
  payload: bytes('{"work":1}'),
  ...more,
})

/** Stores tasks that must be taken, and gives their rows. */
export async function submitted(store: Store, ...tasks: Partial<NewTask>[]): Promise<TaskRow[]> {
  const outcomes = await store.tasks.submit(tasks.map(newTask), noLimits)
  return outcomes.map((outcome) => {
    assert(outcome.kind === 'created', `a task was answered by ${outcome.kind}`)
    return outcome.task
  })
}

export const submittedOne = async (store: Store, task: Partial<NewTask> = {}): Promise<TaskRow> =>
  (await submitted(store, task))[0]!

export const claimed = (store: Store, more: Partial<ClaimRequest> = {}): Promise<ClaimedTask[]> =>
  store.tasks.claim({
    model: 'm',
    owner: 'worker',
    nowMs: startMs,
    leaseMs: 30_000,
    limit: 1,
    agedLimit: 0,
    ageingMs: 60_000,
    ...more,
  })

export async function claimedOne(store: Store, more: Partial<ClaimRequest> = {}): Promise<ClaimedTask> {
  const tasks = await claimed(store, { ...more, limit: 1 })
  assert.equal(tasks.length, 1, 'nothing was there to claim')
  return tasks[0]!
}

/** Ends the attempt that the row shows. */
export async function settled(
  store: Store,
  { id, attempt }: Pick<TaskRow, 'id' | 'attempt'>,
  outcome: AttemptOutcome,
  nowMs = startMs + 1000,
): Promise<string> {
  const [answer] = await store.tasks.settle([{ id, attempt, nowMs, instance: 'node-1', outcome }])
  return answer?.kind === 'settled' ? answer.status : 'lost'
}

export const success = (result = '{"ok":true}'): AttemptOutcome => ({
  kind: 'succeeded',
  result: bytes(result),
  usage: { promptTokens: 7, completionTokens: 5, cachedTokens: 3 },
})

export const failure = { code: 'upstream_failed', message: 'The instance broke off.' }

/** The states that a task has gone through, a line each: number, status, attempt and error. */
export const historyOf = async (store: Store, id: string): Promise<string[]> =>
  (await store.tasks.get('acme', id))!.history.map(({ seq, status, attempt, error }) =>
    [seq, status, attempt, ...(error ? [error.code] : [])].join(' '),
  )
