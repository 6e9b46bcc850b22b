import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Worker } from 'node:worker_threads'
import pino from 'pino'
import { systemClock } from '../../src/core/clock.ts'
import { SqliteStore, type SqliteStoreOptions } from '../../src/storage/sqlite/sqlite-store.ts'

/** A folder for one test. */
export class Folder implements AsyncDisposable {
  readonly path: string
  readonly database: string

  private constructor(path: string) {
    this.path = path
    this.database = join(path, 'autoglm.db')
  }

  static async make(): Promise<Folder> {
    return new Folder(await mkdtemp(join(tmpdir(), 'autoglm-store-')))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true })
  }
}

/** Stops at the end of its block. */
export class TestStore extends SqliteStore implements AsyncDisposable {
  #thread: Worker | null = null

  static async open(path: string, more: Partial<SqliteStoreOptions> = {}): Promise<TestStore> {
    const store = new TestStore({ path, clock: systemClock, log: pino({ level: 'silent' }), ...more })
    const note = (worker: Worker) => {
      store.#thread = worker
    }
    process.once('worker', note)
    try {
      await store.start()
    } finally {
      process.off('worker', note)
    }
    return store
  }

  /** Ends the storage thread that `open` began, as a crash would. */
  async crash(): Promise<void> {
    await this.#thread?.terminate()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }
}
