import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { BatchRunner, type BatchRunnerOptions } from '../../../src/queue/batches/batch-runner.ts'
import { Batches } from '../../../src/queue/batches/batches.ts'
import { FileStore, type StoredFile } from '../../../src/queue/batches/file-store.ts'
import { ProgressBoard } from '../../../src/queue/progress.ts'
import { Queue } from '../../../src/queue/queue.ts'
import { SqliteStore } from '../../../src/storage/sqlite/sqlite-store.ts'
import type { Store } from '../../../src/storage/store.ts'
import type { AttemptOutcome, TaskRow } from '../../../src/storage/task-store.ts'
import { openLog } from '../../../src/telemetry/log.ts'
import { JumpyClock } from '../harness.ts'

const queueSettings = {
  concurrencyMax: 64,
  liveReserve: 0.25,
  attemptsMax: 1,
  retryDelayMs: 1,
  retryDelayMaxMs: 1,
  leaseMs: 30_000,
  attemptTimeoutMs: 60_000,
  ageingMs: 60_000,
  tenantTasksMax: 100_000,
  tenantBytesMax: 2 ** 30,
  tasksMax: 1_000_000,
  bytesMax: 2 ** 33,
}

/** How a task of the tests ends, from the number that its body carries. */
export type Behaviour = (task: TaskRow, body: Record<string, unknown>) => AttemptOutcome

export const succeed: Behaviour = (_task, body) => ({
  kind: 'succeeded',
  result: Buffer.from(JSON.stringify({ echo: body['n'] })),
  usage: { promptTokens: 2, completionTokens: 1, cachedTokens: 0 },
})

/** The parts of batches, with a clock that stands still. */
export class BatchBench implements AsyncDisposable {
  readonly clock: JumpyClock
  readonly store: Store
  readonly folder: string
  readonly settings = { fileBytesMax: 2 ** 28, filesBytesMax: 2 ** 30, keepFilesMs: 86_400_000 }
  /** Tenants of which files are kept for another time. */
  readonly keepMs = new Map<string, number>()
  queueSettings = queueSettings
  checkBudget = () => {}
  served = new Set(['m'])
  knowsModels = true
  /** Blobs that a test has accounted for. */
  readonly seen = new Set<string>()
  readonly #log = openLog({ level: 'silent', format: 'json' }, new JumpyClock()).log

  constructor(folder: string, store?: Store, clock = new JumpyClock()) {
    this.folder = folder
    this.clock = clock
    this.store = store ?? new SqliteStore({ path: join(folder, 'test.db'), clock, log: this.#log })
  }

  /** On an SQLite store of its own, if no other is given. */
  static async open(store?: Store): Promise<BatchBench> {
    const bench = new BatchBench(await mkdtemp(join(tmpdir(), 'autoglm-batches-')), store)
    await bench.store.start()
    return bench
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store.stop()
    await rm(this.folder, { recursive: true })
  }

  files(store: Store = this.store): FileStore {
    const keepMs = (tenant: string) => this.keepMs.get(tenant) ?? this.settings.keepFilesMs
    return new FileStore({ store, clock: this.clock, log: this.#log, settings: () => this.settings, keepMs })
  }

  queue(store: Store = this.store): Queue {
    const { clock } = this
    const isServed = (model: string) => this.served.has(model)
    const settings = () => this.queueSettings
    return new Queue({
      store,
      clock,
      settings,
      rulesOf: () => ({ weight: 1, bandMin: 0, mayUse: () => true, checkBudget: () => this.checkBudget() }),
      isServed,
      progress: new ProgressBoard(clock),
      log: this.#log,
    })
  }

  batches(store: Store = this.store): Batches {
    return new Batches({ store, files: this.files(store), clock: this.clock, onChange: () => {} })
  }

  /** As a process of its own would have it. */
  runner(options: Partial<BatchRunnerOptions> = {}, store: Store = this.store): BatchRunner {
    return new BatchRunner({
      store,
      queue: this.queue(store),
      files: this.files(store),
      clock: this.clock,
      log: this.#log,
      settings: () => ({ lineBytesMax: 100_000, jsonDepthMax: 64 }),
      knowsModels: () => this.knowsModels,
      options,
    })
  }

  async upload(tenant: string, content: string | Buffer, files = this.files()): Promise<StoredFile> {
    const upload = await files.begin(tenant)
    await upload.write(Buffer.from(content))
    return upload.finish({ filename: 'input.jsonl', purpose: 'batch', keepMs: null })
  }

  async create(tenant: string, content: string | Buffer, window = 60 * 60_000): Promise<string> {
    const file = await this.upload(tenant, content)
    const { batch } = await this.batches().create(tenant, {
      inputFileId: file.id,
      endpoint: '/v1/chat/completions',
      completionWindow: '1h',
      windowMs: window,
      band: 100,
      metadata: null,
      outputKeepMs: null,
    })
    return batch.id
  }

  /** Claims what is queued and ends it. */
  async work(behaviour: Behaviour = succeed, limit = 100): Promise<number> {
    const nowMs = this.clock.wallMs()
    const claimed = await this.store.tasks.claim({
      model: 'm',
      owner: 'test',
      nowMs,
      leaseMs: 30_000,
      limit,
      agedLimit: 0,
      ageingMs: 60_000,
    })
    const settlements = claimed.map(({ task, payload }) => {
      const { work } = JSON.parse(Buffer.from(payload).toString()) as {
        work: { body: Record<string, unknown> }
      }
      return { id: task.id, attempt: task.attempt, nowMs, instance: 'i', outcome: behaviour(task, work.body) }
    })
    if (settlements.length > 0) await this.store.tasks.settle(settlements)
    return claimed.length
  }

  /** Looks and works in turns until the batch is over. */
  async drive(
    tenant: string,
    id: string,
    runner: BatchRunner,
    behaviour: Behaviour = succeed,
  ): Promise<void> {
    for (let turn = 0; turn < 10_000; turn += 1) {
      await runner.look()
      const { batch } = await this.batches().get(tenant, id)
      if (batch.atMs.completed ?? batch.atMs.failed ?? batch.atMs.cancelled ?? batch.atMs.expired) return
      await this.work(behaviour)
      this.clock.advance(1_000)
    }
    throw new Error('the batch does not end')
  }

  /** The lines of the two files of results. */
  async results(tenant: string, id: string): Promise<{ output: ResultLine[]; errors: ResultLine[] }> {
    const { batch } = await this.batches().get(tenant, id)
    return {
      output: await this.#lines(tenant, batch.results?.output),
      errors: await this.#lines(tenant, batch.results?.errors),
    }
  }

  /** The ids of all blobs, as the file has them. */
  blobIds(): string[] {
    const database = new DatabaseSync(join(this.folder, 'test.db'), { readOnly: true })
    const rows = database.prepare('SELECT DISTINCT id FROM blobs ORDER BY id').all() as { id: string }[]
    database.close()
    return rows.map(({ id }) => id)
  }

  async #lines(tenant: string, file: { id: string; lines: number } | undefined): Promise<ResultLine[]> {
    if (!file || file.lines === 0) return []
    const files = this.files()
    const content: Buffer[] = []
    for await (const piece of files.read(await files.get(tenant, file.id))) content.push(piece)
    const text = Buffer.concat(content).toString()
    if (!text.endsWith('\n')) throw new Error('the last line is not whole')
    return text
      .slice(0, -1)
      .split('\n')
      .map((line) => JSON.parse(line) as ResultLine)
  }
}

type ResultLine = {
  id: string
  custom_id: string | null
  response: { status_code: number; request_id: string; body: Record<string, unknown> } | null
  error: { code: string; message: string; param: string | null; line: number } | null
}

export const lineOf = (n: number, more: object = {}): string =>
  JSON.stringify({
    custom_id: `line-${n}`,
    method: 'POST',
    url: '/v1/chat/completions',
    body: { model: 'm', messages: [{ role: 'user', content: 'Hi' }], n },
    ...more,
  })
