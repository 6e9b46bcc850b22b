import { createHash } from 'node:crypto'
import type { Store } from '../../storage/store.ts'
import type { LineError } from './batch-line.ts'
import { readBatchLine } from './batch-line.ts'
import type { Batch } from './batch.ts'
import { IndexWriter, type PieceLimits } from './line-index.ts'
import { isBlank, LineSplitter, type FileLine } from './line-splitter.ts'
import { readPieces } from './pieces.ts'

/** What the input of a batch turned out to be. */
export type Validation = {
  /** Why the batch can't be run at all; null when it can. */
  failure: LineError | null
  lines: { total: number; bad: number }
  pieces: number
  errors: Batch['errors']
}

export type InputLimits = {
  linesMax: number
  errorsShownMax: number
  lineBytesMax: number
  jsonDepthMax: number
  piece: PieceLimits
}

/**
 * Reads the input of a batch from its first byte to its last and writes down where its lines are. A bad line harms no
 * other; the batch fails where no line is good, or more are there than are allowed. `pause` is called after each
 * piece of the file.
 */
export async function validateInput(
  store: Store,
  job: { batch: Batch; indexId: string; fileBytes: number },
  limits: InputLimits,
  pause: () => Promise<void>,
): Promise<Validation> {
  const { batch, indexId } = job
  const splitter = new LineSplitter(limits.lineBytesMax)
  const index = new IndexWriter(store.blobs, indexId, limits.piece)
  /** Hashes: an id may be 512 characters long. */
  const seen = new Map<string, number>()
  const errors: (LineError & { line: number | null })[] = []
  let total = 0
  let bad = 0

  const add = async (line: FileLine): Promise<void> => {
    if (line.bytes && isBlank(line.bytes)) return
    total += 1
    if (total > limits.linesMax) return
    const { customId, error } = judge(line, batch, seen, limits)
    if (error) {
      bad += 1
      if (errors.length < limits.errorsShownMax) errors.push({ ...error, line: line.number })
    }
    await index.add({ number: line.number, at: line.at, length: line.length, customId, error })
  }

  let bytes = 0
  for await (const piece of readPieces(store.blobs, batch.inputFileId)) {
    bytes += piece.length
    for (const line of splitter.push(piece)) await add(line)
    if (total > limits.linesMax) break
    await pause()
  }
  if (total <= limits.linesMax) for (const line of splitter.end()) await add(line)
  const pieces = await index.end()
  const failure =
    total > limits.linesMax
      ? tooManyLines(limits.linesMax)
      : findFailure({ total, bad, isWhole: bytes === job.fileBytes })
  return { failure, lines: { total, bad }, pieces, errors }
}

function judge(
  line: FileLine,
  batch: Batch,
  seen: Map<string, number>,
  limits: InputLimits,
): { customId: string | null; error: LineError | null } {
  if (line.bytes === null) {
    const message = `The line has ${line.length} bytes; at most ${limits.lineBytesMax} are allowed.`
    return { customId: null, error: { code: 'line_too_long', message, param: null } }
  }
  const read = readBatchLine(line.bytes, { endpoint: batch.endpoint, jsonDepthMax: limits.jsonDepthMax })
  if (read.customId !== null) {
    const key = createHash('sha256').update(read.customId).digest('base64').slice(0, 22)
    const before = seen.get(key)
    if (before !== undefined) {
      const message = `\`custom_id\` must differ on each line; line ${before} has the same.`
      return { customId: read.customId, error: { code: 'duplicate_custom_id', message, param: 'custom_id' } }
    }
    seen.set(key, line.number)
  }
  return { customId: read.customId, error: read.kind === 'bad' ? read.error : null }
}

function findFailure(input: { total: number; bad: number; isWhole: boolean }): LineError | null {
  if (!input.isWhole) return inputMissing
  if (input.total === 0) return { code: 'empty_file', message: 'The input file has no lines.', param: null }
  if (input.bad < input.total) return null
  return { code: 'no_usable_line', message: `None of the ${input.total} lines can be run.`, param: null }
}

const tooManyLines = (linesMax: number): LineError => ({
  code: 'too_many_lines',
  message: `The input file has more than ${linesMax} lines, the limit for a batch.`,
  param: null,
})

export const inputMissing: LineError = {
  code: 'input_file_missing',
  message: 'The input file was removed before all of its lines had been read.',
  param: 'input_file_id',
}
