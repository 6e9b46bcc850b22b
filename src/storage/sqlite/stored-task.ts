import type { NewTask, TaskRow, TaskStep } from '../task-store.ts'

/** A task as it goes to the storage's thread, and as it comes back to be worked on. */

/** Its metadata is the JSON that is stored; null for none. */
type StoredMetadata = { metadata: string | null }

export type StoredTask = Omit<NewTask, 'metadata'> & StoredMetadata

/** What a claim answers of a task: the rest of its row follows from the request. */
export type TakenTask = Omit<
  TaskRow,
  'model' | 'status' | 'startedAtMs' | 'finishedAtMs' | 'cancelRequested' | 'metadata'
> &
  StoredMetadata & { payload: Uint8Array; steps: readonly TaskStep[] }

export const toStoredTask = (task: NewTask): StoredTask => ({
  ...task,
  metadata: writeMetadata(task.metadata),
})

function writeMetadata(metadata: NewTask['metadata']): string | null {
  for (const _ in metadata) return JSON.stringify(metadata)
  return null
}
