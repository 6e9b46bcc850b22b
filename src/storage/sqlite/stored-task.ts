import type { NewTask } from '../task-store.ts'
import type { StoredTask } from './pack-calls.ts'

/** A task as the storage's thread is given it. */
export const toStoredTask = (task: NewTask): StoredTask => ({
  ...task,
  metadata: writeMetadata(task.metadata),
})

function writeMetadata(metadata: NewTask['metadata']): string | null {
  for (const _ in metadata) return JSON.stringify(metadata)
  return null
}
