import type { Clock } from '../../core/clock.ts'
import { fail, type ApiError } from '../../core/errors.ts'
import type { Store } from '../../storage/store.ts'
import type { FilePurpose, StoredFile } from './file-store.ts'
import { PieceWriter } from './pieces.ts'

/** What the document of an upload holds. */
export type UploadData = { touchedAtMs: number }

/** How often an upload that goes on says so. */
export const uploadTouchMs = 15_000

type Finished = Pick<StoredFile, 'id' | 'tenant' | 'filename' | 'purpose' | 'bytes' | 'createdAtMs'>

type UploadParts = {
  id: string
  tenant: string
  createdAtMs: number
  store: Store
  clock: Clock
  fileBytesMax: number
  filesBytesMax: number
  /** Bytes that have come of the tenant's files whose upload began before: of several, the first finds room. */
  earlierBytes: () => number
  publish: (file: Finished & { keepMs: number | null }) => Promise<StoredFile>
  onEnd: (publishedBytes: number) => void
}

/** A file that is being received. Ends with `finish` or `discard`. */
export class Upload {
  readonly id: string
  readonly tenant: string
  /** Bytes of the tenant's files that are there already. */
  storedBytes = 0
  readonly #parts: UploadParts
  readonly #writer: PieceWriter
  #version = 1
  #touchedAtMs: number

  constructor(parts: UploadParts) {
    this.id = parts.id
    this.tenant = parts.tenant
    this.#parts = parts
    this.#touchedAtMs = parts.createdAtMs
    this.#writer = new PieceWriter(parts.store.blobs, parts.id)
  }

  get bytes(): number {
    return this.#writer.bytes
  }

  /** Notes that the file is coming, before its first byte is written: what a crash leaves can be found. */
  async open(): Promise<void> {
    const { id, tenant, createdAtMs, store } = this.#parts
    const data = JSON.stringify({ touchedAtMs: createdAtMs } satisfies UploadData)
    await store.documents.insert({
      kind: 'upload',
      id,
      tenant,
      createdAtMs,
      expiresAtMs: null,
      open: true,
      data,
    })
  }

  /** Throws body_too_large and files_full. */
  async write(bytes: Uint8Array): Promise<void> {
    const { fileBytesMax, clock } = this.#parts
    if (this.bytes + bytes.length > fileBytesMax) throw tooLarge(fileBytesMax)
    this.#checkRoom(bytes.length)
    await this.#writer.write(bytes)
    if (clock.wallMs() - this.#touchedAtMs > uploadTouchMs) await this.#touch()
  }

  async finish(info: { filename: string; purpose: FilePurpose; keepMs: number | null }): Promise<StoredFile> {
    const { id, tenant, createdAtMs, store, publish, onEnd } = this.#parts
    await this.#writer.end()
    // Earlier uploads may have grown since the last byte of this one came.
    this.#checkRoom(0)
    await this.#touch()
    const file = await publish({ id, tenant, createdAtMs, bytes: this.bytes, ...info })
    await store.documents.remove('upload', tenant, id)
    onEnd(this.bytes)
    return file
  }

  /** Leaves nothing behind; where the store is away, the next sweep does it. */
  async discard(): Promise<void> {
    const { id, tenant, store, onEnd } = this.#parts
    try {
      // It may have become visible before the call that made it so failed.
      await store.documents.remove('file', tenant, id)
      await store.blobs.remove(id)
      await store.documents.remove('upload', tenant, id)
    } finally {
      onEnd(0)
    }
  }

  #checkRoom(moreBytes: number): void {
    const { filesBytesMax, earlierBytes } = this.#parts
    if (this.storedBytes + earlierBytes() + this.bytes + moreBytes <= filesBytesMax) return
    throw tooMany(`With this file, those of the tenant would take up more than ${filesBytesMax} bytes`)
  }

  /** Throws where another process has swept away what was silent for too long. */
  async #touch(): Promise<void> {
    const { id, tenant, clock, store } = this.#parts
    this.#touchedAtMs = clock.wallMs()
    const data = JSON.stringify({ touchedAtMs: this.#touchedAtMs } satisfies UploadData)
    const seen = { kind: 'upload', id, tenant, version: this.#version }
    if (!(await store.documents.update({ ...seen, expiresAtMs: null, open: true, data }))) {
      throw fail('request_timeout', { message: 'The upload was silent for too long and has been given up.' })
    }
    this.#version += 1
  }
}

/** Also for those who can tell from the length that was announced. */
export const tooLarge = (fileBytesMax: number): ApiError =>
  fail('body_too_large', {
    message: `The file is larger than ${fileBytesMax} bytes, the limit for one.`,
    param: 'file',
  })

export const tooMany = (what: string): ApiError =>
  fail('files_full', { message: `${what}. Delete files that are not needed any more.` })
