/** One line of a file that came in pieces. */
export type FileLine = {
  /** Counted from 1, blank lines included: the number that an editor shows. */
  number: number
  /** Where it begins in the file, in bytes. */
  at: number
  /** Without the line break. */
  length: number
  /** Null when it is longer than allowed: then it was not kept. */
  bytes: Buffer | null
}

const lineFeed = 0x0a
const carriageReturn = 0x0d
const byteOrderMark = Buffer.from([0xef, 0xbb, 0xbf])

/**
 * Cuts pieces of a file into lines, wherever the borders of the pieces lie. Holds at most one line, and nothing of
 * one that is longer than `lineBytesMax`. A byte order mark in front of the first line is passed over.
 */
export class LineSplitter {
  readonly #lineBytesMax: number
  /** The beginning of the line that is not over yet. */
  #held: Buffer[] = []
  #heldBytes = 0
  #length = 0
  #number = 1
  #at = 0

  constructor(lineBytesMax: number) {
    this.#lineBytesMax = lineBytesMax
  }

  /** The lines that end in this piece. */
  *push(piece: Buffer): Generator<FileLine> {
    let from = 0
    for (;;) {
      const end = piece.indexOf(lineFeed, from)
      if (end === -1) break
      this.#take(piece.subarray(from, end))
      yield this.#finish(1)
      from = end + 1
    }
    this.#take(piece.subarray(from))
  }

  /** The last line, where no line break ends it. */
  *end(): Generator<FileLine> {
    if (this.#length > 0) yield this.#finish(0)
  }

  #take(part: Buffer): void {
    this.#length += part.length
    // A line may have a mark in front and a carriage return behind beyond its own length.
    if (this.#length > this.#lineBytesMax + byteOrderMark.length + 1) {
      this.#held = []
      this.#heldBytes = 0
    } else if (part.length > 0) {
      this.#held.push(part)
      this.#heldBytes += part.length
    }
  }

  #finish(breakLength: number): FileLine {
    const number = this.#number
    let at = this.#at
    let length = this.#length
    let bytes: Buffer | null = null
    if (this.#heldBytes === length) {
      bytes = this.#held.length === 1 ? (this.#held[0] as Buffer) : Buffer.concat(this.#held, length)
      if (number === 1 && bytes.subarray(0, 3).equals(byteOrderMark)) {
        bytes = bytes.subarray(3)
        at += 3
      }
      if (bytes.at(-1) === carriageReturn) bytes = bytes.subarray(0, -1)
      length = bytes.length
      if (length > this.#lineBytesMax) bytes = null
    }
    this.#at += this.#length + breakLength
    this.#number += 1
    this.#held = []
    this.#heldBytes = 0
    this.#length = 0
    return { number, at, length, bytes }
  }
}

/** Nothing but white space. */
export const isBlank = (bytes: Buffer): boolean => bytes.every((byte) => byte <= 0x20)
