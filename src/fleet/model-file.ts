import { existsSync } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { systemClock, type Clock } from '../core/clock.ts'
import { SetupError } from '../core/errors.ts'
import { readGgufHeader } from './gguf-header.ts'
import { downloadModel, type DownloadProgress } from './model-download.ts'
import { listParts, parseModelSource, type HubSource } from './model-source.ts'

type ModelFile = {
  /** Absolute path of the GGUF file; of the first one, when there are several. */
  path: string
  /** Length of all its files. */
  bytes: number
  kind: 'bundled' | 'hub' | 'path'
  /** Another one as soon as a file is replaced or written to: path, length and time of the last change. */
  version: string
}

type ResolveOptions = {
  /** Downloads go to `models/` in it. */
  dataDir: string
  onProgress?: (progress: DownloadProgress) => void
  signal?: AbortSignal
  fetch?: typeof fetch
  /** `HF_ENDPOINT` and `HF_TOKEN` are read from it; the default is the environment of the process. */
  env?: Readonly<Record<string, string | undefined>>
  clock?: Clock
}

/** `src/fleet/` in a checkout, `dist/src/fleet/` in the package. */
const bundledPlaces = ['../../models/tiny/tiny.gguf', '../../../models/tiny/tiny.gguf'].map((place) =>
  fileURLToPath(new URL(place, import.meta.url)),
)

const headBytesFirst = 4 * 1024 * 1024
/** Vocabularies are the largest part of a head; no known one comes near. */
const headBytesMax = 256 * 1024 * 1024

async function readStart(path: string, bytes: number): Promise<Buffer> {
  const file = await open(path)
  try {
    const buffer = Buffer.allocUnsafe(bytes)
    const { bytesRead } = await file.read(buffer, 0, bytes, 0)
    return buffer.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

async function sizeOfFile(path: string): Promise<number> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => error)
  if (found instanceof Error) {
    if (found.code !== 'ENOENT' && found.code !== 'ENOTDIR') {
      throw new SetupError(`${path} cannot be read: ${found.code ?? found.message}`, { cause: found })
    }
    throw new SetupError(
      `${path} is not there; give the path of a GGUF file, tiny for the bundled model, or hf:user/repo:file.gguf`,
    )
  }
  if (found.isDirectory()) throw new SetupError(`${path} is a folder; name the GGUF file in it`)
  if (!found.isFile()) throw new SetupError(`${path} is not a file`)
  return found.size
}

function explainStranger(path: string, head: Buffer, reason: string): SetupError {
  if (head.length === 0) return new SetupError(`${path} is empty; fetch it again`)
  const text = head.toString('latin1', 0, 200)
  if (text.startsWith('version https://git-lfs')) {
    return new SetupError(`${path} is a pointer of Git LFS and not the model itself; fetch it with: git lfs pull`)
  }
  if (/^\s*<(!doctype|html)/i.test(text)) {
    return new SetupError(`${path} is a web page and not a model; fetch the file itself`)
  }
  return new SetupError(`${path} is not a GGUF file that can be read: ${reason}; convert the model to GGUF, or fetch it again`)
} // prettier-ignore

/**
 * Checks that the file at `path` is a whole GGUF file, from its head and its length alone; resolves with the length.
 * Throws a SetupError that names the path and the way out.
 */
async function checkGguf(path: string): Promise<number> {
  const size = await sizeOfFile(path)
  const cutOff = new SetupError(`${path} is cut off after ${size} bytes; fetch it again`)
  for (let bytes = headBytesFirst; ; bytes *= 4) {
    const head = await readStart(path, Math.min(bytes, size)).catch((error: NodeJS.ErrnoException) => {
      throw new SetupError(`${path} cannot be read: ${error.code ?? error.message}; allow this user to read it`, { cause: error })
    })
    const verdict = readGgufHeader(head)
    if (verdict.kind === 'broken') throw explainStranger(path, head, verdict.reason)
    if (verdict.kind === 'header') {
      if (size < verdict.header.bytesMin) throw cutOff
      if (verdict.header.tensorCount === 0 && listParts(path).length === 1) {
        throw new SetupError(`${path} holds no tensors (a vocabulary only); choose the file with the model`)
      }
      return size
    }
    if (head.length === 0) throw explainStranger(path, head, '')
    if (head.length >= size) throw cutOff
    if (bytes > headBytesMax) throw explainStranger(path, head, 'its head does not end')
  }
} // prettier-ignore

async function checkAll(paths: readonly string[], kind: ModelFile['kind']): Promise<ModelFile> {
  let bytes = 0
  let version = paths[0]!
  for (const path of paths) {
    const partBytes = await checkGguf(path)
    bytes += partBytes
    version += ` ${partBytes}@${(await stat(path)).mtimeMs}`
  }
  return { path: paths[0]!, bytes, kind, version }
}

/** Where a file of the hub lies: `models/user/repo/revision/file.gguf`. */
export function placeOfHubFile(dataDir: string, { user, repo, revision, file }: HubSource): string {
  return resolve(join(dataDir, 'models', user, repo, revision.replaceAll('/', '--'), file))
}

async function resolveHub(hub: HubSource, options: ResolveOptions): Promise<ModelFile> {
  const parts = listParts(hub.file).map((file) => ({ ...hub, file }))
  const paths = parts.map((part) => placeOfHubFile(options.dataDir, part))
  for (const [at, source] of parts.entries()) {
    await downloadModel({
      source,
      path: paths[at]!,
      env: options.env ?? process.env,
      fetch: options.fetch ?? fetch,
      clock: options.clock ?? systemClock,
      signal: options.signal ?? new AbortController().signal,
      onProgress: options.onProgress ?? (() => {}),
      check: checkGguf,
    })
  }
  return checkAll(paths, 'hub')
}

/**
 * The file that a model's `source` stands for, checked: the bundled one, one of this machine, or one of a hub, which
 * is downloaded the first time. Throws a SetupError with the way out, or the signal's reason.
 */
export async function resolveModelFile(source: string, options: ResolveOptions): Promise<ModelFile> {
  const parsed = parseModelSource(source)
  switch (parsed.kind) {
    case 'bundled': {
      const path = bundledPlaces.find((place) => existsSync(place))
      if (path === undefined) {
        throw new SetupError(`the bundled model is missing: ${bundledPlaces[0]} is not there; install Open-AutoGLM again`)
      }
      return checkAll([path], 'bundled')
    }
    case 'path': {
      const path = resolve(parsed.path)
      return checkAll(listParts(path), 'path')
    }
    case 'hub':
      return resolveHub(parsed.hub, options)
  }
} // prettier-ignore
