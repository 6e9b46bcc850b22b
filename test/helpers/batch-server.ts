import OpenAI from 'openai'
import type { Config } from '../../src/config/schema.ts'
import { systemClock } from '../../src/core/clock.ts'
import { BatchRunner } from '../../src/queue/batches/batch-runner.ts'
import { Batches } from '../../src/queue/batches/batches.ts'
import { FileStore } from '../../src/queue/batches/file-store.ts'
import type { Queue } from '../../src/queue/queue.ts'
import type { Store } from '../../src/storage/store.ts'
import { openLog } from '../../src/telemetry/log.ts'
import { TaskServer, type TaskServerOptions } from './task-server.ts'

type Made = { store: Store; queue: Queue; config: Config }

/** A server with the routes of files and batches and a runner; the tasks are ended by the test. */
export class BatchServer implements AsyncDisposable {
  readonly tasks: TaskServer
  readonly files: FileStore
  readonly runner: BatchRunner
  readonly client: OpenAI

  private constructor(tasks: TaskServer, files: FileStore, runner: BatchRunner) {
    this.tasks = tasks
    this.files = files
    this.runner = runner
    this.client = new OpenAI({ baseURL: `${tasks.url}/v1`, apiKey: 'none', maxRetries: 0 })
  }

  static async start(options: TaskServerOptions = {}): Promise<BatchServer> {
    const clock = options.clock ?? systemClock
    let files: FileStore | undefined
    let runner: BatchRunner | undefined
    const more = (made: Made) => {
      const { store, queue } = made
      const { server, storage, log: logging } = made.config
      const { log } = openLog(logging, clock)
      files = new FileStore({ store, clock, log, settings: () => storage, keepMs: () => storage.keepFilesMs })
      runner = new BatchRunner({
        ...{ store, queue, files, clock, log },
        settings: () => ({ lineBytesMax: server.bodyBytesMax, jsonDepthMax: server.jsonDepthMax }),
        knowsModels: () => true,
        options: { pollMs: 50, gatherMs: 10 },
      })
      return { files, batches: new Batches({ store, files, clock, onChange: () => runner?.wake() }) }
    }
    const tasks = await TaskServer.start({ ...options, more })
    const [theFiles, theRunner] = [files, runner] as unknown as [FileStore, BatchRunner]
    await theFiles.start()
    await theRunner.start()
    return new BatchServer(tasks, theFiles, theRunner)
  }

  get url(): string {
    return this.tasks.url
  }

  get store(): Store {
    return this.tasks.store
  }

  /** Ends what is queued, well, again and again, until `isOver`. */
  async workUntil(isOver: () => Promise<boolean>): Promise<void> {
    for (let idle = 0; !(await isOver()); idle += 1) {
      if (idle > 2_000) throw new Error('waited in vain')
      const nowMs = systemClock.wallMs()
      const claim = {
        model: 'm',
        owner: 'test',
        nowMs,
        leaseMs: 60_000,
        limit: 500,
        agedLimit: 0,
        ageingMs: 60_000,
      }
      const claimed = await this.store.tasks.claim(claim)
      const result = Buffer.from('{"object":"chat.completion"}')
      const usage = { promptTokens: 5, completionTokens: 3, cachedTokens: 1 }
      const outcome = { kind: 'succeeded', result, usage } as const
      const ended = claimed.map(({ task }) => ({
        id: task.id,
        attempt: task.attempt,
        nowMs,
        instance: 'u0',
        outcome,
      }))
      if (ended.length > 0) await this.store.tasks.settle(ended)
      else await systemClock.sleep(5)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.runner.stop()
    await this.files.stop()
    await this.tasks[Symbol.asyncDispose]()
  }
}
