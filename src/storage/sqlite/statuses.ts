import { taskStatuses, type TaskStatus } from '../task-states.ts'

/** A state as it is stored: its place in `taskStatuses`. The partial indexes of the schema name these numbers. */
export const statusNumbers = Object.fromEntries(
  taskStatuses.map((status, index) => [status, index]),
) as Record<TaskStatus, number>

export const toStatus = (number: number): TaskStatus => taskStatuses[number] as TaskStatus
