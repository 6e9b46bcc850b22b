import type { TaskError } from './task-store.ts'

/** Why a task moved on without its worker, as its history tells it. The same in every driver. */
export const reasons = {
  cancelled: { code: 'cancelled', message: 'Cancelled on request.' },
  expired: { code: 'expired', message: 'The deadline passed before the task had ended.' },
  requeued: { code: 'requeued', message: 'Put back into the line on request.' },
  workerLost: { code: 'worker_lost', message: 'The worker fell silent in this attempt.' },
} as const satisfies Record<string, TaskError>
