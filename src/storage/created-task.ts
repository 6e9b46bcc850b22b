import type { NewTask, TaskRow } from './task-store.ts'
import type { TaskStatus } from './task-states.ts'

/** The row of a task that has just been stored. */
export const toCreatedTask = (task: NewTask, status: TaskStatus): TaskRow => ({
  id: task.id,
  tenant: task.tenant,
  endpoint: task.endpoint,
  model: task.model,
  band: task.band,
  status,
  attempt: 0,
  attemptsMax: task.attemptsMax,
  createdAtMs: task.createdAtMs,
  runAtMs: task.runAtMs,
  deadlineMs: task.deadlineMs,
  startedAtMs: null,
  finishedAtMs: null,
  cancelRequested: false,
  parent: task.parent,
  position: task.position,
  notify: task.notify,
  metadata: task.metadata,
  error: null,
  usage: null,
})
