import { SetupError } from '../core/errors.ts'
import { askForJson, findServer } from './api-client.ts'
import { nameStatus, type ShownTask } from './task-text.ts'

/** Cancels or requeues tasks, one after the other; 1 when one of them could not be. */
export async function changeTasks(
  action: 'cancel' | 'requeue',
  ids: readonly string[],
  options: { url?: string },
): Promise<number> {
  const server = findServer(options.url, process.env)
  let code = 0
  for (const id of ids) {
    try {
      const path = `/v1/tasks/${encodeURIComponent(id)}/${action}`
      const task = (await askForJson(server, path, { method: 'POST' })) as ShownTask
      process.stdout.write(`${task.id} ${nameStatus(task)}\n`)
    } catch (error) {
      if (!(error instanceof SetupError)) throw error
      process.stderr.write(`error: ${id}: ${error.message}\n`)
      code = 1
    }
  }
  return code
}
