import { parentPort, workerData } from 'node:worker_threads'
import { Context } from './context.ts'
import { Database, migrate } from './database.ts'
import { freeLeases } from './due.ts'
import { runGroup } from './group.ts'
import { lockDatabase } from './lock.ts'
import { packAnswers, type PackedAnswers } from './pack-answers.ts'
import { unpackCalls, type PackedCalls } from './pack-calls.ts'

/** The thread that SQLite lives in: an fsync takes up to milliseconds, and must not stall a live stream. */

export type WorkerInput = {
  path: string
  busyTimeoutMs: number
  /** The process has just begun to use the database: leases that are found belong to nobody. */
  freesLeases: boolean
}
export type ToWorker = (PackedCalls & { number: number }) | 'stop'
export type FromWorker =
  | { kind: 'ready' }
  | { kind: 'failed'; message: string; setup: boolean }
  | { kind: 'done'; number: number; packed: PackedAnswers }
  | { kind: 'stopped' }

const port = parentPort!
const send = (message: FromWorker) => port.postMessage(message, [])

function open({
  path,
  busyTimeoutMs,
  freesLeases,
}: WorkerInput): { context: Context; unlock: () => void } | null {
  let unlock = () => {}
  try {
    unlock = lockDatabase(path)
    const database = new Database(path, { busyTimeoutMs })
    migrate(database)
    const context = new Context(database)
    if (freesLeases) tryToFreeLeases(context)
    return { context, unlock }
  } catch (error) {
    unlock()
    send({ kind: 'failed', message: (error as Error).message, setup: (error as Error).name === 'SetupError' })
    port.close()
    return null
  }
}

function tryToFreeLeases(context: Context): void {
  try {
    freeLeases(context)
  } catch {
    // A disk that is full is no reason not to start: what can be read is read, and the leases end by themselves.
  }
}

function reopen(context: Context): Context {
  const { path, options } = context.database
  context.database.close()
  return new Context(new Database(path, options))
}

const opened = open(workerData as WorkerInput)
if (opened) {
  const { unlock } = opened
  let { context } = opened
  port.on('message', (message: ToWorker) => {
    if (message !== 'stop') {
      const calls = unpackCalls(message)
      const { answers, wakes } = runGroup(context, calls)
      send({ kind: 'done', number: message.number, packed: packAnswers(calls, answers, wakes) })
      // After a failed write or fsync the pages in memory may not be those on disk: a new connection reads them again.
      if (answers.some((answer) => 'error' in answer && answer.error.io)) context = reopen(context)
      return
    }
    context.database.close()
    unlock()
    send({ kind: 'stopped' })
    port.close()
  })
  send({ kind: 'ready' })
}
