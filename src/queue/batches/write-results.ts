import type { Store } from '../../storage/store.ts'
import type { BatchResult, TaskUsage } from '../../storage/task-store.ts'
import type { LineError } from './batch-line.ts'
import type { Batch } from './batch.ts'
import { refusalsId } from './feed-lines.ts'
import { readIndexPiece, RefusalReader, type IndexedLine } from './line-index.ts'
import { PieceWriter } from './pieces.ts'
import { writeError, writeFailure, writeSuccess, type LineParts } from './result-line.ts'

export type Written = Required<Pick<Batch, 'results' | 'counts' | 'usage'>>

/** Results that are in memory at once. */
const resultsAtOnce = 50

/**
 * Writes the two files of a batch, every line of the input into one of them, in order. Reads the index, the refusals
 * and the results of the tasks side by side, a few of each at a time. `pause` is called now and then.
 */
export async function writeResults(
  store: Store,
  batch: Batch,
  target: { outputId: string; errorsId: string; isLate: boolean },
  pause: () => Promise<void>,
): Promise<Written> {
  const output = new LineFile(store, target.outputId)
  const errors = new LineFile(store, target.errorsId)
  const results = new ResultReader(store, batch.id)
  const refusals = new RefusalReader(store.blobs, refusalsId(batch.id))
  const usage = { promptTokens: 0, completionTokens: 0, cachedTokens: 0 }
  let unfinished = 0
  for (let piece = 1; piece <= (batch.index?.pieces ?? 0); piece += 1) {
    const refused = await refusals.of(piece)
    for (const line of await readIndexPiece(store.blobs, batch.index?.id ?? '', piece)) {
      const name = { batchId: batch.id, line: line.number, customId: line.customId }
      const task = line.error ? null : await results.at(line.number)
      if (task) addUsage(usage, task.usage)
      if (task?.status === 'succeeded') {
        await output.add(writeSuccess(name, task.id, task.result ?? noResult))
      } else if (task?.status === 'dead') {
        await errors.add(writeFailure(name, task))
      } else {
        const error =
          line.error ?? judgeMissing({ task, refusal: refused.get(line.number), batch, piece, target })
        if (error === expired) unfinished += 1
        await errors.add(writeError(name, error))
      }
    }
    await pause()
  }
  const files = { output: await output.end(), errors: await errors.end() }
  return {
    results: { unfinished, ...files },
    counts: { completed: files.output.lines, failed: files.errors.lines },
    usage,
  }
}

const noResult = Buffer.from('null')

const expired: LineError = {
  code: 'batch_expired',
  message: 'This line was not done before the completion window of the batch was over.',
  param: null,
}
const cancelled: LineError = {
  code: 'batch_cancelled',
  message: 'This line was not done before the batch was cancelled.',
  param: null,
}
const taskCancelled: LineError = {
  code: 'task_cancelled',
  message: 'The task of this line was cancelled.',
  param: null,
}
const taskRemoved: LineError = {
  code: 'task_removed',
  message: 'The task of this line was removed before the batch had ended.',
  param: null,
}

/** Why a good line has no answer. */
function judgeMissing(line: {
  task: BatchResult | null
  refusal: LineError | undefined
  batch: Batch
  piece: number
  target: { isLate: boolean }
}): LineError {
  const { task, refusal, batch, piece, target } = line
  if (task === null && refusal) return refusal
  if (task?.status === 'expired') return expired
  if (batch.status === 'cancelling') return cancelled
  if (target.isLate) return expired
  if (task === null) return piece <= batch.fed ? taskRemoved : expired
  return taskCancelled
}

function addUsage(sum: TaskUsage, usage: TaskUsage | null): void {
  sum.promptTokens += usage?.promptTokens ?? 0
  sum.completionTokens += usage?.completionTokens ?? 0
  sum.cachedTokens += usage?.cachedTokens ?? 0
}

class LineFile {
  readonly #writer: PieceWriter
  #lines = 0

  constructor(store: Store, id: string) {
    this.#writer = new PieceWriter(store.blobs, id)
  }

  async add(parts: LineParts): Promise<void> {
    for (const part of parts) await this.#writer.write(part)
    this.#lines += 1
  }

  async end(): Promise<{ id: string; bytes: number; lines: number }> {
    await this.#writer.end()
    return { id: this.#writer.id, bytes: this.#writer.bytes, lines: this.#lines }
  }
}

/** The results of a batch by their lines, which must be asked for in rising order. */
class ResultReader {
  readonly #store: Store
  readonly #batchId: string
  #page: BatchResult[] = []
  #at = 0
  #isLast = false

  constructor(store: Store, batchId: string) {
    this.#store = store
    this.#batchId = batchId
  }

  async at(line: IndexedLine['number']): Promise<BatchResult | null> {
    for (;;) {
      const next = this.#page[this.#at]
      if (next === undefined) {
        if (this.#isLast) return null
        this.#page = await this.#store.tasks.results(
          this.#batchId,
          this.#page.at(-1)?.position ?? 0,
          resultsAtOnce,
        )
        this.#at = 0
        this.#isLast = this.#page.length < resultsAtOnce
      } else if (next.position > line) return null
      else {
        this.#at += 1
        if (next.position === line) return next
      }
    }
  }
}
