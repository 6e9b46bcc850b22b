import type { QueueLimits, SubmitOutcome } from '../task-store.ts'
import type { TaskStatus } from '../task-states.ts'
import type { Context } from './context.ts'
import { readTask } from './read-tasks.ts'
import { statusNumbers } from './statuses.ts'
import type { StoredTask } from './stored-task.ts'

/** As `SubmitOutcome`, but a created task is not sent back to a caller who has it. */
export type StoredOutcome =
  Exclude<SubmitOutcome, { kind: 'created' }> | { kind: 'created'; status: 'queued' | 'delayed' }

export function submit(context: Context, tasks: readonly StoredTask[], limits: QueueLimits): StoredOutcome[] {
  return tasks.map((task) => submitOne(context, task, limits))
}

function submitOne(context: Context, task: StoredTask, limits: QueueLimits): StoredOutcome {
  const known = findKnown(context, task) ?? findFull(context, task, limits)
  if (known) return known
  const status: TaskStatus = task.runAtMs !== null && task.runAtMs > task.createdAtMs ? 'delayed' : 'queued'
  const n = insertTask(context, task, status)
  if (task.idempotencyKey !== null) {
    context
      .sqlAside('INSERT INTO idempotency (tenant, key, n, fingerprint) VALUES (?, ?, ?, ?)')
      .run(task.tenant, task.idempotencyKey, n, task.fingerprint)
  }
  const { tenant, model, parent, payload } = task
  context.tallies.add({ tenant, model, parent, bytes: payload.byteLength }, statusNumbers[status])
  if (status === 'queued') context.wakes.ready(model)
  return { kind: 'created', status }
}

function insertTask(context: Context, task: StoredTask, status: 'queued' | 'delayed'): number {
  // A delayed task joins the line when its time has come: until then it must not hold its tenant back.
  const queued = status === 'queued'
  const n = context.pending.takeN()
  const number = statusNumbers[status]
  const bytes = task.payload.byteLength
  context.pending.tasks.add(
    n,
    task.id,
    task.tenant,
    task.endpoint,
    task.model,
    task.band,
    number,
    number,
    task.cost,
    queued ? context.lines.takeTag(task) : null,
    bytes,
    task.attemptsMax,
    task.notify ? 1 : 0,
    task.createdAtMs,
    task.runAtMs,
    queued ? task.createdAtMs : null,
    task.deadlineMs,
    task.parent,
    task.position,
  )
  context.pending.payloads.add(n, task.payload, task.metadata, task.attemptsMax, task.idempotencyKey)
  return n
}

function findKnown(context: Context, task: StoredTask): StoredOutcome | null {
  if (task.idempotencyKey === null) return null
  const known = context
    .sqlAside('SELECT n, fingerprint FROM idempotency WHERE tenant = ? AND key = ?')
    .get(task.tenant, task.idempotencyKey) as { n: number; fingerprint: string | null } | undefined
  if (!known) return null
  const existing = readTask(context, known.n)
  if (known.fingerprint !== task.fingerprint) return { kind: 'conflict', id: existing.id }
  return { kind: 'existing', task: existing }
}

function findFull(context: Context, task: StoredTask, limits: QueueLimits): StoredOutcome | null {
  const bytes = task.payload.byteLength
  const own = context.tallies.live('tenant', task.tenant)
  if (own.tasks >= limits.tenantTasksMax) return { kind: 'full', scope: 'tenant', what: 'tasks' }
  if (own.bytes + bytes > limits.tenantBytesMax) return { kind: 'full', scope: 'tenant', what: 'bytes' }
  const all = context.tallies.live('all', '')
  if (all.tasks >= limits.tasksMax) return { kind: 'full', scope: 'all', what: 'tasks' }
  if (all.bytes + bytes > limits.bytesMax) return { kind: 'full', scope: 'all', what: 'bytes' }
  return null
}
