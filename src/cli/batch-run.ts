import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { systemClock } from '../core/clock.ts'
import { SetupError } from '../core/errors.ts'
import { findServer, type Server } from './api-client.ts'
import { createBatch, downloadFile, findBatch, readBatch, uploadFile, type Batch } from './batch-api.ts'
import { readEndpoint, writeWithModel } from './batch-input.ts'
import { forgetState, hashFile, openState, saveState, stateFileOf, type BatchState } from './batch-state.ts'
import { askOnce, keepTrying, patienceMsMax, type Patience } from './patience.ts'
import { keepLine } from './plain-text.ts'
import { formatCounts, makeStatusLine } from './progress.ts'
import { commandName } from '../core/command-name.ts'

export type BatchOptions = {
  url?: string
  output?: string
  model?: string
  endpoint?: string
  cancel?: boolean
}

const exitInterrupted = 130
/** Small batches end soon; large ones need no more than a look now and then. */
const pollMs = { min: 250, max: 3_000 } as const
const reasonsMax = 10
const lastStatuses = ['completed', 'failed', 'expired', 'cancelled']

/** The files of a run, all beside one another. */
type RunFiles = { input: string; output: string; errors: string; state: string }

function nameFiles(input: string, output: string | undefined): RunFiles {
  const base = input.replace(/\.jsonl$/, '')
  const results = output ?? `${base}.output.jsonl`
  return {
    input,
    output: results,
    errors: `${results.replace(/(\.output)?\.jsonl$/, '')}.errors.jsonl`,
    state: stateFileOf(results),
  }
}

/** Runs a file of requests as one batch, from the upload to the results. 1 when lines failed. */
export async function runBatch(input: string, options: BatchOptions): Promise<number> {
  const server = findServer(options.url, process.env)
  const files = nameFiles(input, options.output)
  const endpoint = options.endpoint ?? (await readEndpoint(input))
  const inputSha256 = await hashFile(input)
  const run = { url: server.url, endpoint, model: options.model ?? null, inputSha256 }
  const { state, isResumed } = await openState(files.state, run)
  if (!isResumed) {
    if (options.cancel) throw new SetupError(`no batch of ${input} is under way: ${files.state} is not there`)
    refuseToOverwrite(files)
  }

  const stop = new AbortController()
  const onInterrupt = () => stop.abort()
  process.on('SIGINT', onInterrupt)
  try {
    return await new BatchRun(server, files, state, stop.signal).finish(options.cancel ?? false)
  } catch (error) {
    if (!stop.signal.aborted) throw error
    const rest = state.batchId === null ? '' : `; the batch ${state.batchId} goes on at the server`
    process.stderr.write(
      `\nstopped${rest}\nRun the same command again to pick it up, or with --cancel to end it.\n`,
    )
    return exitInterrupted
  } finally {
    process.off('SIGINT', onInterrupt)
  }
}

function refuseToOverwrite({ output, errors }: RunFiles): void {
  const taken = [output, errors].find((file) => existsSync(file))
  if (taken === undefined) return
  throw new SetupError(`${taken} is there already; move it away, or name another with --output`)
}

/** One run: each step is taken only when its outcome is not known yet, and written down before the next. */
class BatchRun {
  readonly #server: Server
  readonly #files: RunFiles
  readonly #state: BatchState
  readonly #signal: AbortSignal
  readonly #show = makeStatusLine(process.stderr, systemClock)

  constructor(server: Server, files: RunFiles, state: BatchState, signal: AbortSignal) {
    this.#server = server
    this.#files = files
    this.#state = state
    this.#signal = signal
  }

  async finish(cancels: boolean): Promise<number> {
    const isResumed = this.#state.fileId !== null
    const fileId = this.#state.fileId ?? (await this.#upload())
    const batchId = this.#state.batchId ?? (await this.#create(fileId, isResumed))
    if (cancels) await this.#cancel(batchId)
    const batch = await this.#waitForEnd(batchId)
    return this.#collect(batch)
  }

  /** The first word with a server fails at once, as a mistake would; later ones outlast a restart. */
  #patience(isFirst: boolean): Patience {
    const onWait = (reason: string) => process.stderr.write(`\n${reason.split('\n')[0]}\ntrying again …\n`)
    return { clock: systemClock, signal: this.#signal, limitMs: isFirst ? 0 : patienceMsMax, onWait }
  }

  async #upload(): Promise<string> {
    const { input } = this.#files
    const { model } = this.#state
    process.stderr.write(`uploading ${input}\n`)
    if (model === null) return this.#keepFile(await uploadFile(this.#server, input, this.#patience(true)))
    const folder = await mkdtemp(join(tmpdir(), 'autoglm-batch-'))
    try {
      const rewritten = join(folder, basename(input))
      await writeWithModel(input, rewritten, model)
      return await this.#keepFile(await uploadFile(this.#server, rewritten, this.#patience(true)))
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }

  async #keepFile(fileId: string): Promise<string> {
    this.#state.fileId = fileId
    await saveState(this.#files.state, this.#state)
    return fileId
  }

  async #create(fileId: string, isResumed: boolean): Promise<string> {
    const patience = this.#patience(false)
    const known = isResumed
      ? await keepTrying(patience, () => findBatch(this.#server, fileId, this.#signal))
      : null
    const batch = known ?? (await createBatch(this.#server, { ...this.#state, fileId }, patience))
    if (typeof batch.id !== 'string')
      throw new SetupError(`${this.#server.url}/v1/batches did not answer a batch`)
    this.#state.batchId = batch.id
    await saveState(this.#files.state, this.#state)
    process.stderr.write(`batch ${keepLine(batch.id)}\n`)
    return batch.id
  }

  async #cancel(batchId: string): Promise<void> {
    const path = `/v1/batches/${encodeURIComponent(batchId)}/cancel`
    await keepTrying(this.#patience(false), () =>
      askOnce(this.#server, path, { method: 'POST', signal: this.#signal }),
    )
  }

  async #waitForEnd(batchId: string): Promise<Batch> {
    for (let waitMs: number = pollMs.min; ; waitMs = Math.min(pollMs.max, waitMs * 1.5)) {
      const batch = await readBatch(this.#server, batchId, this.#patience(false))
      const { total, completed, failed } = batch.request_counts ?? { total: 0, completed: 0, failed: 0 }
      const isLast = lastStatuses.includes(batch.status)
      this.#show(formatCounts({ label: keepLine(batch.status), done: completed, failed, total }), isLast)
      if (isLast) return batch
      await systemClock.sleep(waitMs, this.#signal)
    }
  }

  /** Fetches what there is; the state goes when all of it is here. */
  async #collect(batch: Batch): Promise<number> {
    const { output, errors, state } = this.#files
    const outputId = batch.output_file_id ?? null
    const errorId = batch.error_file_id ?? null
    const patience = this.#patience(false)
    if (outputId !== null) await downloadFile(this.#server, { id: outputId, target: output }, patience)
    if (errorId !== null) await downloadFile(this.#server, { id: errorId, target: errors }, patience)
    await forgetState(state)
    if (outputId !== null) process.stdout.write(`results: ${output}\n`)
    if (errorId !== null) process.stdout.write(`errors: ${errors}\n`)
    const reasons = batch.errors?.data ?? []
    for (const { line, message } of reasons.slice(0, reasonsMax)) {
      process.stderr.write(
        `error: ${line ? `line ${line}: ` : ''}${keepLine(message ?? 'no reason given')}\n`,
      )
    }
    if (reasons.length > reasonsMax) process.stderr.write(`… and ${reasons.length - reasonsMax} more\n`)
    const failed = batch.request_counts?.failed ?? 0
    if (batch.status === 'completed' && failed === 0) return 0
    process.stderr.write(
      batch.status === 'completed'
        ? `${failed === 1 ? 'one line' : `${failed} lines`} failed\n`
        : `the batch is ${keepLine(batch.status)}: not all lines were answered; ${commandName} batch FILE --output OTHER runs them again\n`,
    )
    return 1
  }
}
