import { Worker } from 'node:worker_threads'
import { SetupError } from '../../core/errors.ts'
import { StoreUnavailable, type Wake } from '../store.ts'
import type { Answer } from './group.ts'
import type { Call } from './operations.ts'
import { unpackAnswers, unpackWakes } from './pack-answers.ts'
import { packCalls } from './pack-calls.ts'
import type { FromWorker, ToWorker, WorkerInput } from './worker.ts'

type Pending = { resolve: (answers: Answer[]) => void; reject: (error: unknown) => void }

/** The main thread's end of the worker. */
export class WorkerLink {
  readonly #worker: Worker
  readonly #pending = new Map<number, Pending>()
  readonly #onWakes: (wakes: Wake[]) => void
  #numbers = 0
  #gone: Error | null = null
  /** Resolves when the thread has ended, with what it ended of; null when it was asked to. */
  readonly ended: Promise<Error | null>

  private constructor(worker: Worker, onWakes: (wakes: Wake[]) => void) {
    this.#worker = worker
    this.#onWakes = onWakes
    const { promise, resolve } = Promise.withResolvers<Error | null>()
    this.ended = promise
    let stopped = false
    let cause: unknown
    worker.on('message', (message: FromWorker) => {
      if (message.kind === 'done') this.#settle(message)
      else if (message.kind === 'stopped') stopped = true
    })
    worker.on('error', (error) => {
      cause = error
    })
    worker.on('exit', (code) => {
      const error = new StoreUnavailable('The storage thread has ended.', {
        cause: cause ?? new Error(`exit code ${code}`),
      })
      this.#gone = error
      for (const { reject } of this.#pending.values()) reject(error)
      this.#pending.clear()
      resolve(stopped ? null : error)
    })
  }

  /** Throws SetupError when the database can't be had. */
  static async open(input: WorkerInput, onWakes: (wakes: Wake[]) => void): Promise<WorkerLink> {
    const file = `./worker-entry${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`
    const worker = new Worker(new URL(file, import.meta.url), {
      workerData: input,
      // What a group of calls leaves behind is short-lived. With 2 MB it would be collected in the midst of the group,
      // while it is still in use: a tenth of the time. More than this would only be memory.
      resourceLimits: { maxYoungGenerationSizeMb: 8 },
      // Node 22 calls its SQLite experimental; what is used here is covered by the tests.
      execArgv: ['--disable-warning=ExperimentalWarning'],
    })
    const link = new WorkerLink(worker, onWakes)
    const first = await new Promise<FromWorker>((resolve, reject) => {
      worker.once('message', resolve)
      void link.ended.then((error) => reject(error ?? new Error('the storage thread ended at its start')))
    })
    if (first.kind === 'ready') return link
    await link.ended
    if (first.kind !== 'failed') throw new Error('the storage thread did not say that it is ready')
    throw first.setup
      ? new SetupError(first.message)
      : new SetupError(`${input.path} can't be opened as a database: ${first.message}`)
  }

  send(calls: Call[]): Promise<Answer[]> {
    if (this.#gone) return Promise.reject(this.#gone)
    return new Promise((resolve, reject) => {
      this.#numbers += 1
      this.#pending.set(this.#numbers, { resolve, reject })
      const packed = packCalls(calls)
      this.#post({ number: this.#numbers, ...packed }, [packed.bytes.buffer])
    })
  }

  async stop(): Promise<void> {
    if (!this.#gone) this.#post('stop')
    await this.ended
  }

  #post(message: ToWorker, transferred: ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, transferred)
  }

  #settle({ number, packed }: Extract<FromWorker, { kind: 'done' }>): void {
    const pending = this.#pending.get(number)
    this.#pending.delete(number)
    pending?.resolve(unpackAnswers(packed))
    if (packed.wakes !== '') this.#onWakes(unpackWakes(packed))
  }
}
