import type { BlobStore } from '../../storage/store.ts'

/** All pieces of a file but the last are this long, so that a place in it says which piece holds it. */
export const pieceBytes = 262_144
/** Pieces that are written, or read, together: a megabyte is what a file that moves takes up in memory. */
const piecesAtOnce = 4

/** Writes bytes as they come into a blob, in pieces of one length. Waits for the disk: whoever writes should too. */
export class PieceWriter {
  readonly id: string
  readonly #blobs: BlobStore
  #bytes = 0
  #piece: Buffer = Buffer.allocUnsafe(pieceBytes)
  #used = 0
  #full: Buffer[] = []

  constructor(blobs: BlobStore, id: string) {
    this.#blobs = blobs
    this.id = id
  }

  /** All bytes that were taken. */
  get bytes(): number {
    return this.#bytes
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let from = 0; from < bytes.length;) {
      const part = bytes.subarray(from, from + pieceBytes - this.#used)
      this.#piece.set(part, this.#used)
      this.#used += part.length
      this.#bytes += part.length
      from += part.length
      if (this.#used < pieceBytes) continue
      this.#full.push(this.#piece)
      this.#piece = Buffer.allocUnsafe(pieceBytes)
      this.#used = 0
      if (this.#full.length === piecesAtOnce) await this.#flush()
    }
  }

  /** Everything is on disk when this resolves; nothing can be written after it. */
  async end(): Promise<void> {
    // A copy: the store may keep hold of the bytes, and most files are far shorter than a piece.
    if (this.#used > 0) this.#full.push(Buffer.from(this.#piece.subarray(0, this.#used)))
    this.#used = 0
    await this.#flush()
  }

  async #flush(): Promise<void> {
    if (this.#full.length === 0) return
    const pieces = this.#full
    this.#full = []
    await this.#blobs.append(this.id, pieces)
  }
}

/** The pieces of a blob from its beginning. Ends where the blob does, or where it has been removed meanwhile. */
export async function* readPieces(blobs: BlobStore, id: string): AsyncGenerator<Buffer> {
  let last = 0
  for (;;) {
    const pieces = await blobs.read(id, last, piecesAtOnce)
    for (const { bytes } of pieces) yield toBuffer(bytes)
    if (pieces.length < piecesAtOnce) return
    last = pieces.at(-1)?.number ?? last
  }
}

/** Reads parts of a file by their places. Cheap where one part follows the other. */
export class RangeReader {
  readonly #blobs: BlobStore
  readonly #id: string
  #window: { number: number; bytes: Uint8Array }[] = []

  constructor(blobs: BlobStore, id: string) {
    this.#blobs = blobs
    this.#id = id
  }

  /** Null when the file has no such part (any more). */
  async read(at: number, length: number): Promise<Buffer | null> {
    const whole = Buffer.allocUnsafe(length)
    for (let filled = 0; filled < length;) {
      const piece = await this.#find(Math.floor((at + filled) / pieceBytes) + 1)
      const part = piece?.subarray((at + filled) % pieceBytes, ((at + filled) % pieceBytes) + length - filled)
      if (!part || part.length === 0) return null
      whole.set(part, filled)
      filled += part.length
    }
    return whole
  }

  async #find(number: number): Promise<Uint8Array | null> {
    const held = this.#window.find((piece) => piece.number === number)
    if (held) return held.bytes
    this.#window = await this.#blobs.read(this.#id, number - 1, piecesAtOnce)
    return this.#window[0]?.number === number ? this.#window[0].bytes : null
  }
}

const toBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
