import { createHash, randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import { SetupError } from '../core/errors.ts'

/** What a later run needs to go on with a batch: it lies beside the output until all is there. */
export type BatchState = {
  version: 1
  url: string
  endpoint: string
  model: string | null
  /** SHA-256 of the input: another content is another batch. */
  inputSha256: string
  /** Drawn once; the batch carries it, so that one whose answer was lost is found again. */
  runId: string
  fileId: string | null
  batchId: string | null
}

export const stateFileOf = (outputFile: string): string => `${outputFile}.state.json`

/** The state that an earlier run left, or a new one. Throws a SetupError when what is there belongs to another run. */
export async function openState(
  file: string,
  run: Pick<BatchState, 'url' | 'endpoint' | 'model' | 'inputSha256'>,
): Promise<{ state: BatchState; isResumed: boolean }> {
  const before = await readState(file)
  if (before === null) {
    const runId = randomBytes(12).toString('hex')
    return { state: { version: 1, ...run, runId, fileId: null, batchId: null }, isResumed: false }
  }
  const differing = (['inputSha256', 'endpoint', 'model', 'url'] as const).filter(
    (key) => before[key] !== run[key],
  )
  if (differing.length === 0) return { state: before, isResumed: true }
  const names = { inputSha256: 'content', endpoint: 'endpoint', model: 'model', url: 'server' }
  throw new SetupError(
    `${file} belongs to a batch that is not finished, with another ${differing.map((key) => names[key]).join(' and ')}; ` +
      'run it as before to finish it, name another --output, or delete that file to forget it',
  )
}

/** Written beside and then renamed: a crash leaves the old state or the new one. */
export async function saveState(file: string, state: BatchState): Promise<void> {
  const draft = `${file}.${process.pid}.tmp`
  await writeFile(draft, `${JSON.stringify(state, null, 2)}\n`, { flush: true })
  await rename(draft, file)
}

export const forgetState = (file: string): Promise<void> => rm(file, { force: true })

async function readState(file: string): Promise<BatchState | null> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw new SetupError(`${file} can't be read (${(error as NodeJS.ErrnoException).code})`)
  }
  try {
    const state = JSON.parse(text) as BatchState
    if (state.version === 1 && typeof state.runId === 'string') return state
  } catch {
    // Said below.
  }
  throw new SetupError(`${file} is not the state of a batch; delete it to begin anew`)
}

export async function hashFile(file: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(file), hash)
  return hash.digest('hex')
}
