import { systemClock } from '../src/core/clock.ts'
import type { NewTask } from '../src/storage/task-store.ts'
import { makeTaskId } from '../src/storage/task-id.ts'

/** A task that nobody works on. */
export function makeNoOpTask(more: Partial<NewTask> & Pick<NewTask, 'payload'>): NewTask {
  const nowMs = systemClock.wallMs()
  return {
    id: makeTaskId('task', nowMs),
    tenant: 'acme',
    endpoint: '/v1/chat/completions',
    model: 'm',
    band: 50,
    cost: 100,
    createdAtMs: nowMs,
    runAtMs: null,
    deadlineMs: null,
    attemptsMax: 5,
    parent: null,
    position: null,
    idempotencyKey: null,
    fingerprint: null,
    metadata: {},
    notify: false,
    ...more,
  }
}
