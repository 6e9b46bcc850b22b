import { Worker } from 'node:worker_threads'
import { SetupError } from '../../core/errors.ts'
import type { AsideResult, AsideTask } from './aside-worker.ts'

/**
 * Runs what takes long in a thread and a connection of its own: it reads one state of the database, and the storage
 * thread goes on writing meanwhile. Works beside a running server, and without one.
 */
export async function runAside(task: AsideTask): Promise<string[]> {
  const file = `./aside-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`
  const worker = new Worker(new URL(file, import.meta.url), {
    workerData: task,
    execArgv: ['--disable-warning=ExperimentalWarning'],
  })
  const result = await new Promise<AsideResult>((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
    worker.once('exit', (code) => reject(new Error(`the thread of ${task.task} ended with ${code}`)))
  })
  await worker.terminate()
  if (result.kind === 'failed')
    throw result.setup ? new SetupError(result.message) : new Error(result.message)
  return result.lines
}
