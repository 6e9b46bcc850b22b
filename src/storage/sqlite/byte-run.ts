/** Many pieces of bytes as one run, and back. */

export class ByteWriter {
  readonly #pieces: Uint8Array[] = []
  #length = 0

  add(piece: Uint8Array): number {
    this.#pieces.push(piece)
    this.#length += piece.byteLength
    return piece.byteLength
  }

  join(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.#length)
    let offset = 0
    for (const piece of this.#pieces) {
      bytes.set(piece, offset)
      offset += piece.byteLength
    }
    return bytes
  }
}

export class ByteReader {
  readonly #bytes: Uint8Array
  #offset = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  take(length: number): Uint8Array {
    this.#offset += length
    return this.#bytes.subarray(this.#offset - length, this.#offset)
  }
}

/** For what is cloned: a view of a larger buffer, such as all small ones of Node's, would take all of it along. */
export const ownBytes = (bytes: Uint8Array): Uint8Array =>
  bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes)
