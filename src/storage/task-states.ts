/**
 * The states of a task, and every way from one to another. `delayed` waits for a time, `queued` for its turn;
 * `dead` has used up its attempts or failed in a way that no further attempt can mend.
 */
const taskTransitions = {
  delayed: ['queued', 'cancelled', 'expired'],
  queued: ['running', 'cancelled', 'expired'],
  running: ['succeeded', 'queued', 'delayed', 'dead', 'cancelled', 'expired'],
  succeeded: [],
  dead: ['queued'],
  cancelled: ['queued'],
  expired: ['queued'],
} as const satisfies Record<string, readonly string[]>

export type TaskStatus = keyof typeof taskTransitions

export const taskStatuses = Object.keys(taskTransitions) as TaskStatus[]

/** Waiting or at work: counted by the limits, not removed by the retention. */
export const liveStatuses = ['delayed', 'queued', 'running'] as const satisfies readonly TaskStatus[]

/** Over; only a requeue leads out of these. */
export const finalStatuses = [
  'succeeded',
  'dead',
  'cancelled',
  'expired',
] as const satisfies readonly TaskStatus[]

export const isFinal = (status: TaskStatus): boolean => (finalStatuses as readonly string[]).includes(status)

export const canMove = (from: TaskStatus, to: TaskStatus): boolean =>
  (taskTransitions[from] as readonly TaskStatus[]).includes(to)
