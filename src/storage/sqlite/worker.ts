import { parentPort, workerData } from 'node:worker_threads'
import type { Wake } from '../store.ts'
import { Context } from './context.ts'
import { Database, migrate } from './database.ts'
import { runGroup, type Answer } from './group.ts'
import { lockDatabase } from './lock.ts'
import { unpackCalls, type PackedCalls } from './packing.ts'

/** The thread that SQLite lives in: an fsync takes up to milliseconds, and must not stall a live stream. */

export type WorkerInput = { path: string }
export type ToWorker = (PackedCalls & { number: number }) | 'stop'
export type FromWorker =
  | { kind: 'ready' }
  | { kind: 'failed'; message: string; setup: boolean }
  | { kind: 'done'; number: number; answers: Answer[]; wakes: Wake[] }
  | { kind: 'stopped' }

const port = parentPort!
const send = (message: FromWorker) => port.postMessage(message, [])

function open(path: string): { context: Context; unlock: () => void } | null {
  let unlock = () => {}
  try {
    unlock = lockDatabase(path)
    const database = new Database(path)
    migrate(database)
    return { context: new Context(database), unlock }
  } catch (error) {
    unlock()
    send({ kind: 'failed', message: (error as Error).message, setup: (error as Error).name === 'SetupError' })
    port.close()
    return null
  }
}

const opened = open((workerData as WorkerInput).path)
if (opened) {
  const { context, unlock } = opened
  port.on('message', (message: ToWorker) => {
    if (message !== 'stop') {
      const { answers, wakes } = runGroup(context, unpackCalls(message))
      return send({ kind: 'done', number: message.number, answers, wakes })
    }
    context.database.close()
    unlock()
    send({ kind: 'stopped' })
    port.close()
  })
  send({ kind: 'ready' })
}
