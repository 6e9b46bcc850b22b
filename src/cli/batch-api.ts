import { createWriteStream, openAsBlob } from 'node:fs'
import { rename } from 'node:fs/promises'
import { basename } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { SetupError } from '../core/errors.ts'
import { jsonBody, type Server } from './api-client.ts'
import type { BatchState } from './batch-state.ts'
import {
  askOnce,
  askOnceForJson,
  askPatiently,
  keepTrying,
  PassingFailure,
  type Patience,
} from './patience.ts'

/** A batch of OpenAI's API, with the fields that matter here. */
export type Batch = {
  id: string
  status: string
  input_file_id?: string
  output_file_id?: string | null
  error_file_id?: string | null
  request_counts?: { total: number; completed: number; failed: number } | null
  errors?: { data?: { line?: number | null; message?: string }[] } | null
  metadata?: Record<string, string> | null
}

const batchPageMax = 100
/** A batch that was made a moment ago is among the newest. */
const batchPagesMax = 5

export async function uploadFile(server: Server, file: string, patience: Patience): Promise<string> {
  const blob = await openAsBlob(file, { type: 'application/jsonl' })
  const made = (await askPatiently(server, '/v1/files', patience, () => {
    const form = new FormData()
    form.set('purpose', 'batch')
    form.set('file', blob, basename(file))
    return { method: 'POST', body: form }
  })) as { id?: unknown }
  if (typeof made.id === 'string') return made.id
  throw new SetupError(`${server.url}/v1/files did not answer a file; is this an OpenAI-compatible server?`)
}

/**
 * Makes the batch of an uploaded file, once: an answer that was lost on the way is looked for before asking again,
 * for a second batch would do, and cost, everything twice.
 */
export async function createBatch(
  server: Server,
  state: BatchState & { fileId: string },
  patience: Patience,
): Promise<Batch> {
  const { fileId, endpoint, runId } = state
  let isFirst = true
  return keepTrying(patience, async () => {
    const known = isFirst ? null : await findBatch(server, fileId, patience.signal)
    isFirst = false
    if (known) return known
    const metadata = { autoglm_run: runId }
    const init = jsonBody({ input_file_id: fileId, endpoint, completion_window: '24h', metadata })
    init.headers = { ...(init.headers as Record<string, string>), 'idempotency-key': runId }
    return (await askOnceForJson(server, '/v1/batches', { ...init, signal: patience.signal })) as Batch
  })
}

/** The batch of this input file, when there is one. */
export async function findBatch(server: Server, fileId: string, signal: AbortSignal): Promise<Batch | null> {
  let after = ''
  for (let page = 0; page < batchPagesMax; page += 1) {
    const path = `/v1/batches?limit=${batchPageMax}${after}`
    const answer = await askOnceForJson(server, path, { signal })
    const { data, has_more } = answer as { data?: Batch[]; has_more?: boolean }
    const found = data?.find(({ input_file_id }) => input_file_id === fileId)
    if (found) return found
    const last = data?.at(-1)
    if (!has_more || !last) return null
    after = `&after=${encodeURIComponent(last.id)}`
  }
  return null
}

export const readBatch = async (server: Server, id: string, patience: Patience): Promise<Batch> =>
  (await askPatiently(server, `/v1/batches/${encodeURIComponent(id)}`, patience)) as Batch

/** The content of a file, whole or not at all: it gets its name when the last byte is there. */
export async function downloadFile(
  server: Server,
  { id, target }: { id: string; target: string },
  patience: Patience,
): Promise<void> {
  const part = `${target}.part`
  const { signal } = patience
  await keepTrying(patience, async () => {
    const response = await askOnce(server, `/v1/files/${encodeURIComponent(id)}/content`, { signal })
    const body = response.body ? Readable.fromWeb(response.body as never) : Readable.from([])
    // A file that can't be written is not mended by waiting; a connection may be.
    const sink = createWriteStream(part, { flush: true })
    let isOurs = false
    sink.once('error', () => {
      isOurs = true
    })
    await pipeline(body, sink, { signal }).catch((error: unknown) => {
      signal.throwIfAborted()
      const reason = (error as Error).message
      if (isOurs && (error as NodeJS.ErrnoException).path !== undefined) {
        throw new SetupError(`${part} can't be written: ${reason}`)
      }
      throw new PassingFailure(new SetupError(`the download of ${target} broke off: ${reason}`))
    })
  })
  await rename(part, target)
}
