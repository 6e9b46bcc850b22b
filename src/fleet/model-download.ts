import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, open, readFile, rename, rm, stat, statfs, writeFile, type FileHandle } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import type { Clock } from '../core/clock.ts'
import { SetupError } from '../core/errors.ts'
import { LockTimeout, takeLock } from './file-lock.ts'
import {
  HubRefusal,
  HubTrouble,
  hubEndpoint,
  requestFile,
  type HubAnswer,
  type HubEnvironment,
} from './hub-request.ts'
import type { HubSource } from './model-source.ts'

/** Failures in a row, each without a single new byte, after which a download is given up. */
const failuresMax = 5
const retryDelayMs = 500
/** A connection that brings nothing for so long is dead. */
const idleMs = 60_000
/** Another process may be at the same file for this long. */
const lockWaitMs = 3_600_000

export type DownloadProgress = { doneBytes: number; totalBytes: number | null }

type DownloadOptions = {
  source: HubSource
  /** Where the file is to lie. Beside it, while it grows: `.part`, `.part.etag` and `.lock`; then `.sha256`. */
  path: string
  env: HubEnvironment
  fetch: typeof fetch
  clock: Clock
  signal: AbortSignal
  onProgress: (progress: DownloadProgress) => void
  /** Judges the whole file before it takes its name; throws when it is not what it should be. */
  check: (path: string) => Promise<unknown>
}

const describe = ({ user, repo, file }: HubSource) => `hf:${user}/${repo}:${file}`

async function sizeOf(path: string): Promise<number | null> {
  return stat(path).then(
    ({ size }) => size,
    () => null,
  )
}

/**
 * The checksum in the format of `sha256sum`, which skips the comment; the comment is what later starts compare.
 */
const formatChecksum = (sha256: string, path: string, bytes: number) =>
  `${sha256}  ${basename(path)}\n# ${bytes} bytes\n`

/** Whether the file at `path` is there with the size that was checked when it was downloaded. */
async function isDownloaded(path: string): Promise<boolean> {
  const size = await sizeOf(path)
  if (size === null) return false
  const text = await readFile(`${path}.sha256`, 'utf8').catch(() => '')
  const expected = /^# (\d+) bytes$/m.exec(text)
  return expected !== null && Number(expected[1]) === size
}

/** What was downloaded before, and the tag by which the host recognises it. */
async function readPart(part: string): Promise<{ bytes: number; etag: string | null }> {
  const bytes = (await sizeOf(part)) ?? 0
  const etag = await readFile(`${part}.etag`, 'utf8').catch(() => null)
  // A weak or missing tag cannot promise the same bytes, so the file begins anew.
  return etag !== null && etag.startsWith('"') ? { bytes, etag } : { bytes: 0, etag: null }
}

async function forgetPart(part: string): Promise<void> {
  await Promise.all([rm(part, { force: true }), rm(`${part}.etag`, { force: true })])
}

async function hashFile(path: string, hash: Hash): Promise<void> {
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
}

async function requireSpace(folder: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder)
  if (bavail * bsize >= bytes) return
  throw new SetupError(
    `${folder} has room for ${bavail * bsize} bytes, and ${bytes} are to come; free some, or choose another folder with --data-dir`,
  )
}

/** Writes the body to the end of `file`; every chunk restarts the clock of a silent connection. */
async function writeBody(options: {
  answer: HubAnswer
  file: FileHandle
  hash: Hash
  startByte: number
  download: DownloadOptions
  watchdog: { restart: () => void }
}): Promise<number> {
  const { answer, file, hash, download, watchdog } = options
  let doneBytes = options.startByte
  if (answer.response.body === null || answer.response.status === 416) {
    await answer.response.body?.cancel()
    return doneBytes
  }
  for await (const chunk of answer.response.body as AsyncIterable<Uint8Array>) {
    watchdog.restart()
    await file.writeFile(chunk)
    hash.update(chunk)
    doneBytes += chunk.length
    if (answer.totalBytes !== null && doneBytes > answer.totalBytes) {
      await forgetPart(`${download.path}.part`)
      throw new HubRefusal(`the hub sent more than the ${answer.totalBytes} bytes that the file has`)
    }
    download.onProgress({ doneBytes, totalBytes: answer.totalBytes })
  }
  return doneBytes
}

function startWatchdog(clock: Clock): { signal: AbortSignal; restart: () => void; stop: () => void } {
  const controller = new AbortController()
  let cancel = () => {}
  const restart = () => {
    cancel()
    cancel = clock.after(idleMs, () =>
      controller.abort(new HubTrouble(`no byte came for ${idleMs / 1000} s`)),
    )
  }
  restart()
  return { signal: controller.signal, restart, stop: () => cancel() }
}

/** The byte at which the answer goes on, or null when it does not fit to what is there. */
function findStart(answer: HubAnswer, have: number): number | null {
  if (answer.response.status === 200) return 0
  // All bytes came before, but the process ended before it could give the file its name.
  if (answer.response.status === 416 && have > 0 && have === answer.totalBytes) return have
  const from = /^bytes (\d+)-/.exec(answer.response.headers.get('content-range') ?? '')
  return answer.response.status === 206 && Number(from?.[1] ?? -1) === have ? have : null
}

/** One connection: takes up where the last one broke off. Resolves when the file is whole and its sum is right. */
async function downloadOnce(download: DownloadOptions, part: string): Promise<{ sha256: string; bytes: number }> {
  const { source, env, clock } = download
  const have = await readPart(part)
  const watchdog = startWatchdog(clock)
  const signal = AbortSignal.any([download.signal, watchdog.signal])
  try {
    const answer = await requestFile({ source, fromByte: have.bytes, etag: have.etag, env, fetch: download.fetch, signal })
    if (/^text\/html/i.test(answer.response.headers.get('content-type') ?? '')) {
      await answer.response.body?.cancel()
      throw new HubRefusal(`${hubEndpoint(env)} answered with a web page instead of the file; a proxy or a login page is in between`)
    }
    const startByte = findStart(answer, have.bytes)
    if (startByte === null) {
      await answer.response.body?.cancel()
      await forgetPart(part)
      throw new HubTrouble('the hub could not go on where the download broke off')
    }
    if (answer.totalBytes !== null) await requireSpace(dirname(part), answer.totalBytes - startByte)
    const hash = createHash('sha256')
    if (startByte > 0) await hashFile(part, hash)
    if (answer.etag !== null) await writeFile(`${part}.etag`, answer.etag)
    else await rm(`${part}.etag`, { force: true })

    const file = await open(part, startByte > 0 ? 'a' : 'w')
    let bytes: number
    try {
      bytes = await writeBody({ answer, file, hash, startByte, download, watchdog })
      await file.sync()
    } finally {
      await file.close()
    }
    if (answer.totalBytes !== null && bytes < answer.totalBytes) throw new HubTrouble('the connection broke off')
    const sha256 = hash.digest('hex')
    if (answer.sha256 !== null && answer.sha256 !== sha256) {
      await forgetPart(part)
      const message = `the file that came has the SHA-256 ${sha256}, and the hub promised ${answer.sha256}`
      // Pieces of two downloads may not fit together; a file that came in one piece would come the same again.
      throw startByte > 0 ? new HubTrouble(message) : new HubRefusal(message)
    }
    return { sha256, bytes }
  } finally {
    watchdog.stop()
  }
} // prettier-ignore

/** The innermost reason of a failed fetch: `fetch failed` itself says nothing. */
function reasonOf(error: unknown): string {
  const { cause, code, message } = error as NodeJS.ErrnoException & { cause?: unknown }
  if (cause instanceof Error) return reasonOf(cause)
  return code ?? message
}

const fatalCodes: Record<string, string> = {
  ENOSPC: 'the disk is full; free some space, or choose another folder with --data-dir',
  EDQUOT: 'the disk quota is used up; free some space, or choose another folder with --data-dir',
  EACCES: 'permission denied; choose a folder that you may write to with --data-dir',
  EROFS: 'the file system is read-only; choose another folder with --data-dir',
}

function throwIfFatal(error: unknown, download: DownloadOptions): void {
  download.signal.throwIfAborted()
  if (error instanceof HubRefusal) throw new SetupError(`${describe(download.source)}: ${error.message}`)
  if (error instanceof SetupError) throw error
  const { code, syscall } = error as NodeJS.ErrnoException
  const fatal = code !== undefined && syscall !== 'connect' ? fatalCodes[code] : undefined
  if (fatal !== undefined)
    throw new SetupError(`${download.path} cannot be written: ${fatal}`, { cause: error })
}

async function downloadWithRetries(download: DownloadOptions, part: string) {
  let failures = 0
  let haveMost = (await sizeOf(part)) ?? 0
  for (;;) {
    try {
      return await downloadOnce(download, part)
    } catch (error) {
      throwIfFatal(error, download)
      const have = (await sizeOf(part)) ?? 0
      // Measured against the most there ever was: a download that begins anew each time must come to an end.
      failures = have > haveMost ? 1 : failures + 1
      haveMost = Math.max(haveMost, have)
      if (failures >= failuresMax) {
        throw new SetupError(
          `${describe(download.source)} could not be downloaded from ${hubEndpoint(download.env)}: ${reasonOf(error)}\n` +
            'Check the network, set HF_ENDPOINT to a mirror, or fetch the file yourself and give its path. What has come so far is kept.',
          { cause: error },
        )
      }
      const waitMs = error instanceof HubTrouble ? error.retryAfterMs : 0
      await download.clock.sleep(Math.max(waitMs, retryDelayMs * 2 ** (failures - 1)), download.signal)
    }
  }
}

/**
 * Brings a file of the hub to `path`, once for all processes. What came before a break is kept and gone on with. The
 * file appears under its name only when it is whole. Throws a SetupError, or the signal's reason.
 */
export async function downloadModel(download: DownloadOptions): Promise<void> {
  const { path, clock, signal } = download
  if (await isDownloaded(path)) return
  try {
    await mkdir(dirname(path), { recursive: true })
  } catch (error) {
    throwIfFatal(error, download)
    throw new SetupError(`${dirname(path)} cannot be made: ${reasonOf(error)}; choose another folder with --data-dir`)
  }
  let free: () => Promise<void>
  try {
    free = await takeLock(`${path}.lock`, { waitMs: lockWaitMs, clock, signal })
  } catch (error) {
    if (error instanceof LockTimeout) {
      const who = error.holder ? `process ${error.holder.pid} on ${error.holder.host}` : 'another process'
      throw new SetupError(`${who} has been downloading ${path} for too long; end it, or remove ${path}.lock`)
    }
    throwIfFatal(error, download)
    throw error
  }
  try {
    if (await isDownloaded(path)) return
    const part = `${path}.part`
    const { sha256, bytes } = await downloadWithRetries(download, part)
    try {
      await download.check(part)
    } catch (error) {
      await forgetPart(part)
      throw error
    }
    // The sum first: a file without one would be downloaded again.
    await writeFile(`${path}.sha256`, formatChecksum(sha256, path, bytes))
    await rename(part, path)
    await rm(`${part}.etag`, { force: true })
  } finally {
    await free()
  }
} // prettier-ignore
