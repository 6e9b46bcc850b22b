import { parentPort, workerData } from 'node:worker_threads'
import { backUp } from './backup.ts'
import { checkDatabase } from './check.ts'

export type AsideTask = { path: string } & ({ task: 'check' } | { task: 'backup'; target: string })
export type AsideResult =
  { kind: 'done'; lines: string[] } | { kind: 'failed'; message: string; setup: boolean }

function run(task: AsideTask): AsideResult {
  try {
    if (task.task === 'check') return { kind: 'done', lines: checkDatabase(task.path) }
    backUp(task.path, task.target)
    return { kind: 'done', lines: [] }
  } catch (error) {
    return {
      kind: 'failed',
      message: (error as Error).message,
      setup: (error as Error).name === 'SetupError',
    }
  }
}

parentPort!.postMessage(run(workerData as AsideTask), [])
