import type { Clock } from '../../core/clock.ts'
import { fail } from '../../core/errors.ts'
import type { Service } from '../../core/service.ts'
import { StoreUnavailable, type Document, type Store } from '../../storage/store.ts'
import { makeTaskId } from '../../storage/task-id.ts'
import type { Logger } from '../../telemetry/log.ts'
import { readPieces } from './pieces.ts'
import { tooMany, Upload, uploadTouchMs, type UploadData } from './upload.ts'

type FileSettings = { fileBytesMax: number; filesBytesMax: number }

/** What a file is for, in OpenAI's words; those that end in `_output` are written by this server. */
export const uploadPurposes = ['batch', 'user_data', 'assistants', 'fine-tune', 'vision', 'evals'] as const
export type FilePurpose = (typeof uploadPurposes)[number] | 'batch_output'

export type StoredFile = {
  id: string
  tenant: string
  filename: string
  purpose: FilePurpose
  bytes: number
  createdAtMs: number
  /** Removed after this. */
  expiresAtMs: number
}

export type FileQuery = {
  tenant: string
  purpose: string | null
  after: string | null
  ascending: boolean
  limit: number
}

const limits = {
  filesMax: 100_000,
  /** Uploads at once, of all tenants and of each: one holds a megabyte. */
  uploadsMax: 64,
  tenantUploadsMax: 32,
  /** How long an upload may be silent before it is taken for broken off. */
  silentMsMax: 20 * uploadTouchMs,
  sweepMs: 60_000,
  scanMax: 1_000,
} as const

/**
 * The files of the tenants: a document says what each is, a blob of the same id holds the content. Until all of it
 * has arrived a file is an `upload` that nobody sees; what breaks off, here or by a crash, is removed.
 */
export class FileStore implements Service {
  readonly name = 'files'
  readonly #store: Store
  readonly #clock: Clock
  readonly #settings: () => FileSettings
  readonly #keepMs: (tenant: string) => number
  readonly #log: Logger
  readonly #uploads = new Map<string, Upload>()
  #stopSweeping: (() => void) | null = null

  constructor(parts: {
    store: Store
    clock: Clock
    settings: () => FileSettings
    /** How long files of a tenant are kept. */
    keepMs: (tenant: string) => number
    log: Logger
  }) {
    this.#store = parts.store
    this.#clock = parts.clock
    this.#settings = parts.settings
    this.#keepMs = parts.keepMs
    this.#log = parts.log
  }

  async start(): Promise<void> {
    // Nobody else writes into an embedded store: whatever is half there was left by a process that is gone.
    const { driver } = await this.#store.maintenance.describe()
    await this.sweep(driver === 'sqlite' ? 0 : limits.silentMsMax)
    this.#stopSweeping ??= this.#clock.every(limits.sweepMs, () => {
      this.sweep(limits.silentMsMax).catch((error: unknown) => {
        if (error instanceof StoreUnavailable)
          this.#log.warn({ reason: error.message }, 'uploads are not swept')
        else this.#log.error({ err: error }, 'sweeping uploads failed')
      })
    })
  }

  async stop(): Promise<void> {
    this.#stopSweeping?.()
    this.#stopSweeping = null
  }

  /** Bytes of the largest file that is taken. */
  get fileBytesMax(): number {
    return this.#settings().fileBytesMax
  }

  /** Removes uploads that have been silent for so long, but for those that this process still receives. */
  async sweep(silentMs: number): Promise<void> {
    const nowMs = this.#clock.wallMs()
    for (const { id, tenant, data } of await this.#store.documents.listOpen('upload', limits.scanMax)) {
      const { touchedAtMs } = JSON.parse(data) as UploadData
      if (this.#uploads.has(id) || nowMs - touchedAtMs < silentMs) continue
      // It may have been finished, and the process gone before it could say so.
      if (!(await this.#store.documents.get('file', tenant, id))) await this.#store.blobs.remove(id)
      await this.#store.documents.remove('upload', tenant, id)
    }
  }

  /** Begins to take a file. Throws files_full and rate_limited. */
  async begin(tenant: string): Promise<Upload> {
    const { filesBytesMax, fileBytesMax } = this.#settings()
    this.#checkRoom(tenant)
    const nowMs = this.#clock.wallMs()
    const id = makeFileId(nowMs)
    const upload: Upload = new Upload({
      id,
      tenant,
      createdAtMs: nowMs,
      store: this.#store,
      clock: this.#clock,
      fileBytesMax,
      filesBytesMax,
      earlierBytes: () => this.#arrivingBytes(tenant, id),
      publish: (file) => this.publish({ ...file, expiresAtMs: this.expiryOf(tenant, nowMs, file.keepMs) }),
      onEnd: (publishedBytes) => {
        this.#uploads.delete(id)
        for (const other of this.#uploads.values()) {
          if (other.tenant === tenant) other.storedBytes += publishedBytes
        }
      },
    })
    this.#uploads.set(id, upload)
    try {
      upload.storedBytes += await this.#usedBytes(tenant)
      await upload.open()
    } catch (error) {
      this.#uploads.delete(id)
      throw error
    }
    return upload
  }

  /** Throws rate_limited. Whoever uploads slowly must not take the places of all others. */
  #checkRoom(tenant: string): void {
    let own = 0
    for (const upload of this.#uploads.values()) if (upload.tenant === tenant) own += 1
    const isFull = this.#uploads.size >= limits.uploadsMax
    if (!isFull && own < limits.tenantUploadsMax) return
    const busy = isFull ? `${limits.uploadsMax} files` : `${limits.tenantUploadsMax} files of this tenant`
    throw fail('rate_limited', {
      message: `${busy} are being uploaded at this moment, as many as are taken at once.`,
      retryAfterMs: 2_000,
    })
  }

  /** A file of which the content is on disk already becomes visible. Once more is as good as once. */
  async publish(file: StoredFile): Promise<StoredFile> {
    const { id, tenant, createdAtMs, expiresAtMs, filename, purpose, bytes } = file
    const data = JSON.stringify({ filename, purpose, bytes } satisfies FileData)
    await this.#store.documents.insert({
      kind: 'file',
      id,
      tenant,
      createdAtMs,
      expiresAtMs,
      open: false,
      data,
    })
    return { id, tenant, createdAtMs, expiresAtMs, filename, purpose, bytes }
  }

  /** When a file made then goes: after the time asked for, and never later than the tenant's files do. */
  expiryOf(tenant: string, createdAtMs: number, keepMs: number | null): number {
    return createdAtMs + Math.min(keepMs ?? Infinity, this.#keepMs(tenant))
  }

  /** Throws file_not_found, as for a file that is another tenant's. */
  async get(tenant: string, id: string, param = 'file_id'): Promise<StoredFile> {
    const document = await this.#store.documents.get('file', tenant, id)
    if (document && !this.#isOver(document)) return toFile(document)
    throw fail('file_not_found', { message: `There is no file \`${id.slice(0, 100)}\`.`, param })
  }

  /** A page of files, and whether more follow. */
  async list(query: FileQuery): Promise<{ files: StoredFile[]; hasMore: boolean }> {
    const { tenant, ascending } = query
    const files: StoredFile[] = []
    let after = query.after
    while (files.length <= query.limit) {
      const limit = Math.min(query.limit + 1, limits.scanMax)
      const page = await this.#store.documents.list({
        kind: 'file',
        tenant,
        ascending,
        limit,
        ...(after === null ? {} : { after }),
      })
      const wanted = page.filter((document) => !this.#isOver(document)).map(toFile)
      files.push(...wanted.filter(({ purpose }) => query.purpose === null || purpose === query.purpose))
      if (page.length < limit) break
      after = page.at(-1)?.id ?? after
    }
    return { files: files.slice(0, query.limit), hasMore: files.length > query.limit }
  }

  /** The content, a piece at a time. Throws when it is removed meanwhile: half a file is not a file. */
  async *read(file: StoredFile): AsyncGenerator<Buffer> {
    let bytes = 0
    for await (const piece of readPieces(this.#store.blobs, file.id)) {
      bytes += piece.length
      yield piece
    }
    if (bytes !== file.bytes)
      throw fail('file_not_found', { message: `The file \`${file.id}\` was removed.` })
  }

  /** Throws file_not_found. */
  async remove(tenant: string, id: string): Promise<void> {
    await this.get(tenant, id)
    // The document goes first: a crash in between leaves bytes that nobody sees, not a file without its content.
    await this.#store.documents.remove('file', tenant, id)
    await this.#store.blobs.remove(id)
  }

  async #usedBytes(tenant: string): Promise<number> {
    let bytes = 0
    let files = 0
    let after: string | undefined
    for (;;) {
      const limit = limits.scanMax
      const page = await this.#store.documents.list({
        kind: 'file',
        tenant,
        limit,
        ...(after ? { after } : {}),
      })
      for (const document of page) bytes += toFile(document).bytes
      files += page.length
      after = page.at(-1)?.id
      if (files >= limits.filesMax) throw tooMany(`${limits.filesMax} files are kept, as many as are allowed`)
      if (page.length < limit) return bytes
    }
  }

  #arrivingBytes(tenant: string, beforeId: string): number {
    let bytes = 0
    for (const upload of this.#uploads.values()) {
      if (upload.tenant === tenant && upload.id < beforeId) bytes += upload.bytes
    }
    return bytes
  }

  /** Past its time, and not yet removed by the retention. */
  #isOver({ expiresAtMs }: Document): boolean {
    return expiresAtMs !== null && expiresAtMs <= this.#clock.wallMs()
  }
}

/** Sorts by the time it was made. */
export const makeFileId = (wallMs: number): string => makeTaskId('file', wallMs).replace('_', '-')

type FileData = { filename: string; purpose: FilePurpose; bytes: number }

function toFile({ id, tenant, createdAtMs, expiresAtMs, data }: Document): StoredFile {
  const { filename, purpose, bytes } = JSON.parse(data) as FileData
  return { id, tenant, createdAtMs, expiresAtMs: expiresAtMs ?? Infinity, filename, purpose, bytes }
}
