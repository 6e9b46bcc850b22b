import { ApiError, type ErrorCode } from '../../core/errors.ts'
import type { Store } from '../../storage/store.ts'
import type { Queue } from '../queue.ts'
import type { TaskSpec } from '../task.ts'
import type { Fields } from '../../router/calls/body.ts'
import { readBatchLine, type LineError } from './batch-line.ts'
import type { Batch } from './batch.ts'
import { noteRefusals, readIndexPiece, type IndexedLine } from './line-index.ts'
import { RangeReader } from './pieces.ts'
import { inputMissing } from './validate-input.ts'

type Feeding =
  | { kind: 'fed'; tasks: number; refused: number }
  /** The queue has no room, the budget is spent, or the store is away: the same piece is fed again, which doubles nothing. */
  | { kind: 'later'; error: ApiError }

type FeedParts = {
  store: Store
  queue: Pick<Queue, 'submitAll'>
  jsonDepthMax: number
  /** Whether a model that is not known now may be known in a moment, because the server has only just started. */
  mayAppear: () => boolean
}

/**
 * Makes tasks of the lines of one piece of the index. The idempotency key of each is its batch and its line: fed once
 * more after a crash, they are found and not made again.
 */
export async function feedPiece(parts: FeedParts, batch: Batch, piece: number): Promise<Feeding> {
  if (!batch.index) throw new Error(`the batch ${batch.id} has no index`)
  const lines = await readIndexPiece(parts.store.blobs, batch.index.id, piece)
  const { specs, refused } = await makeSpecs(parts, batch, lines)
  const outcomes = await parts.queue.submitAll(specs)
  for (const [at, outcome] of outcomes.entries()) {
    if (!(outcome instanceof ApiError)) continue
    if (isPassing(outcome, parts)) return { kind: 'later', error: outcome }
    const { code, message, param } = outcome
    refused.push({ number: specs[at]?.position as number, error: { code, message, param } })
  }
  // Noted before the batch moves on: a line is a task, an error of the index, or in here.
  if (refused.length > 0) {
    await noteRefusals(parts.store.blobs, refusalsId(batch.id), { piece, lines: refused })
  }
  return { kind: 'fed', tasks: specs.length, refused: refused.length }
}

export const refusalsId = (batchId: string): string => `${batchId}.refusals`

/**
 * A fault of this server in checking a line is not among them: it would come again for ever. A batch whose tenant has
 * spent its budget waits for the next day or month, and expires if that comes too late.
 */
const passingCodes: ReadonlySet<ErrorCode> = new Set([
  'queue_full',
  'budget_exceeded',
  'storage_unavailable',
  'shutting_down',
])

const isPassing = ({ code }: ApiError, { mayAppear }: FeedParts): boolean =>
  code === 'model_not_found' ? mayAppear() : passingCodes.has(code)

async function makeSpecs(
  { store, jsonDepthMax }: FeedParts,
  batch: Batch,
  lines: readonly IndexedLine[],
): Promise<{ specs: TaskSpec[]; refused: { number: number; error: LineError }[] }> {
  const input = new RangeReader(store.blobs, batch.inputFileId)
  const specs: TaskSpec[] = []
  const refused: { number: number; error: LineError }[] = []
  for (const { number, at, length, error } of lines) {
    if (error) continue
    const bytes = await input.read(at, length)
    const line = bytes ? readBatchLine(bytes, { endpoint: batch.endpoint, jsonDepthMax }) : null
    if (line?.kind === 'good') specs.push(makeSpec(batch, number, line.body))
    else refused.push({ number, error: line?.error ?? inputMissing })
  }
  return { specs, refused }
}

function makeSpec(batch: Batch, line: number, body: Fields): TaskSpec {
  return {
    tenant: batch.tenant,
    ...(batch.keyId === undefined ? {} : { keyId: batch.keyId }),
    work: { endpoint: batch.endpoint, body },
    band: batch.band,
    runAtMs: null,
    deadlineMs: batch.expiresAtMs,
    attemptsMax: null,
    metadata: {},
    webhook: null,
    idempotencyKey: `${batch.id}:${line}`,
    parent: batch.id,
    position: line,
  }
}
