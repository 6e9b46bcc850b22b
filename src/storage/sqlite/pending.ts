import type { Database } from './database.ts'
import { RowBuffer } from './row-buffer.ts'

const endsMax = 512

/**
 * What the transaction has decided and not yet written: the rows that come by hundreds, in as few statements as can be.
 * `Context.sql` writes them before any statement that could miss them; who uses `Context.sqlAside` answers for it that
 * none of them concerns its statement.
 */
export class Pending {
  readonly tasks: RowBuffer
  readonly payloads: RowBuffer
  readonly events: RowBuffer
  readonly results: RowBuffer
  readonly #database: Database
  /** Tasks that have ended, by state and time. */
  readonly #ends = new Map<string, { status: number; atMs: number; tasks: number[] }>()
  readonly #ended = new Set<number>()
  #nextN: number | null = null

  constructor(database: Database) {
    this.#database = database
    this.tasks = new RowBuffer(database, 'tasks', taskColumns)
    this.payloads = new RowBuffer(database, 'payloads', payloadColumns)
    this.events = new RowBuffer(database, 'events', eventColumns)
    this.results = new RowBuffer(database, 'results', resultColumns, keepWhatIsNotGiven)
  }

  /** The number of the next task. Nobody else writes: the folder is locked. */
  takeN(): number {
    this.#nextN ??= this.#readNextN()
    this.#nextN += 1
    return this.#nextN - 1
  }

  end(n: number, status: number, atMs: number): void {
    if (this.#ended.size >= endsMax) this.flush()
    const key = `${status} ${atMs}`
    let ends = this.#ends.get(key)
    if (!ends) {
      ends = { status, atMs, tasks: [] }
      this.#ends.set(key, ends)
    }
    ends.tasks.push(n)
    this.#ended.add(n)
  }

  /** Its row still says something else. */
  hasEnded(n: number): boolean {
    return this.#ended.has(n)
  }

  flush(): void {
    this.tasks.flush()
    this.payloads.flush()
    this.events.flush()
    this.results.flush()
    if (this.#ended.size === 0) return
    const write = this.#database.sql(
      `UPDATE tasks SET status = ?, seq = seq + 1, finished_at = ?, lease_until = NULL
       WHERE n IN (SELECT value FROM json_each(?))`,
    )
    for (const { status, atMs, tasks } of this.#ends.values()) write.run(status, atMs, JSON.stringify(tasks))
    this.#ends.clear()
    this.#ended.clear()
  }

  /** After a rollback: what is in memory was never written. */
  forget(): void {
    for (const buffer of [this.tasks, this.payloads, this.events, this.results]) buffer.forget()
    this.#ends.clear()
    this.#ended.clear()
    this.#nextN = null
  }

  #readNextN(): number {
    const { last } = this.#database.sql('SELECT max(n) AS last FROM tasks').get() as { last: number | null }
    return (last ?? 0) + 1
  }
}

const taskColumns = [
  'n',
  'id',
  'tenant',
  'endpoint',
  'model',
  'band',
  'status',
  'born',
  'cost',
  'tag',
  'bytes',
  'attempts_max',
  'notify',
  'created_at',
  'run_at',
  'ready_at',
  'deadline_at',
  'parent',
  'position',
]
const payloadColumns = ['n', 'payload', 'metadata', 'attempts_each', 'idempotency_key']
const eventColumns = ['n', 'seq', 'at', 'status', 'attempt', 'error_code', 'error_message', 'instance']
const resultColumns = ['n', 'result', 'prompt_tokens', 'completion_tokens', 'cached_tokens']

/** The error of an attempt before stays. */
const keepWhatIsNotGiven = `ON CONFLICT DO UPDATE SET result = excluded.result, prompt_tokens = excluded.prompt_tokens,
  completion_tokens = excluded.completion_tokens, cached_tokens = excluded.cached_tokens`
