import type { BlobStore } from '../../storage/store.ts'
import type { LineError } from './batch-line.ts'

/**
 * A line of a batch's input: where it lies, by which id its answer goes, and what is wrong with it where it can't be
 * run. The index of a batch is a blob of these, so that neither feeding nor writing the results reads what it does
 * not need, and a batch of 50,000 lines takes up no memory.
 */
export type IndexedLine = {
  number: number
  at: number
  length: number
  customId: string | null
  error: LineError | null
}

/** The lines of one piece become tasks together. */
export type PieceLimits = { lines: number; bytes: number }

/** Collects lines into pieces of the index. */
export class IndexWriter {
  readonly id: string
  readonly #blobs: BlobStore
  readonly #limits: PieceLimits
  #lines: IndexedLine[] = []
  #bytes = 0
  #pieces = 0

  constructor(blobs: BlobStore, id: string, limits: PieceLimits) {
    this.#blobs = blobs
    this.id = id
    this.#limits = limits
  }

  async add(line: IndexedLine): Promise<void> {
    // Bytes are counted where they will be read: a bad line is never read again.
    const bytes = line.error ? 0 : line.length
    if (this.#lines.length === this.#limits.lines || this.#bytes + bytes > this.#limits.bytes)
      await this.#flush()
    this.#lines.push(line)
    this.#bytes += bytes
  }

  /** The number of pieces. */
  async end(): Promise<number> {
    await this.#flush()
    return this.#pieces
  }

  async #flush(): Promise<void> {
    if (this.#lines.length === 0) return
    await this.#blobs.append(this.id, [Buffer.from(JSON.stringify(this.#lines))])
    this.#pieces += 1
    this.#lines = []
    this.#bytes = 0
  }
}

/** The lines of one piece, counted from 1. */
export async function readIndexPiece(blobs: BlobStore, id: string, number: number): Promise<IndexedLine[]> {
  const [piece] = await blobs.read(id, number - 1, 1)
  if (piece?.number !== number) throw new Error(`piece ${number} of the index ${id} is missing`)
  return parseJson(piece.bytes) as IndexedLine[]
}

/** Lines that the queue would not take, by the piece of the index they stand in. */
type Refusals = { piece: number; lines: { number: number; error: LineError }[] }

export async function noteRefusals(blobs: BlobStore, id: string, refusals: Refusals): Promise<void> {
  await blobs.append(id, [Buffer.from(JSON.stringify(refusals))])
}

/** Reads refusals along with the index: pieces must be asked for in rising order. */
export class RefusalReader {
  readonly #blobs: BlobStore
  readonly #id: string
  #last = 0
  #next: Refusals | null = null

  constructor(blobs: BlobStore, id: string) {
    this.#blobs = blobs
    this.#id = id
  }

  /** Those of one piece, by line. It may have been noted more than once, by an attempt that was interrupted. */
  async of(piece: number): Promise<Map<number, LineError>> {
    const found = new Map<number, LineError>()
    for (;;) {
      this.#next ??= await this.#read()
      if (this.#next === null || this.#next.piece > piece) return found
      if (this.#next.piece === piece)
        for (const { number, error } of this.#next.lines) found.set(number, error)
      this.#next = null
    }
  }

  async #read(): Promise<Refusals | null> {
    const [piece] = await this.#blobs.read(this.#id, this.#last, 1)
    if (!piece) return null
    this.#last = piece.number
    return parseJson(piece.bytes) as Refusals
  }
}

const parseJson = (bytes: Uint8Array): unknown =>
  JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'))
