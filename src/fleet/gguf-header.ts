/**
 * The head of a GGUF file, as far as it is needed to tell a whole file from a broken one before a process is started
 * to load it. Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */

type GgufHeader = {
  version: number
  tensorCount: number
  /** The file must be at least this long; a shorter one was cut off. */
  bytesMin: number
}

type GgufVerdict =
  | { kind: 'header'; header: GgufHeader }
  /** `bytes` does not reach to the end of the head. */
  | { kind: 'more' }
  | { kind: 'broken'; reason: string }

/** ggml type -> values in a block, bytes of a block. Source: ggml.h and ggml-common.h of the ggml project. */
const blocks: Readonly<Record<number, readonly [values: number, bytes: number]>> = {
  0: [1, 4], 1: [1, 2], 2: [32, 18], 3: [32, 20], 6: [32, 22], 7: [32, 24], 8: [32, 34], 9: [32, 36],
  10: [256, 84], 11: [256, 110], 12: [256, 144], 13: [256, 176], 14: [256, 210], 15: [256, 292],
  16: [256, 66], 17: [256, 74], 18: [256, 98], 19: [256, 50], 20: [32, 18], 21: [256, 110], 22: [256, 82],
  23: [256, 136], 24: [1, 1], 25: [1, 2], 26: [1, 4], 27: [1, 8], 28: [1, 8], 29: [256, 56], 30: [1, 2],
  34: [256, 54], 35: [256, 66], 39: [32, 17],
} // prettier-ignore

/** Bytes of the plain value types; 8 is a string and 9 an array. */
const valueBytes: Readonly<Record<number, number>> = {
  0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8,
} // prettier-ignore

const typeString = 8
const typeArray = 9
const typeUint32 = 4

/** Counts beyond these appear in no model; they are bytes of something else. */
const limits = { tensors: 1_000_000, values: 100_000, stringBytes: 64 * 1024 * 1024, dimensions: 8 }

class Broken extends Error {}
class NeedMore extends Error {}

class Cursor {
  at = 0
  readonly #bytes: Buffer

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  skip(count: number): number {
    const start = this.at
    if (start + count > this.#bytes.length) throw new NeedMore()
    this.at += count
    return start
  }

  u32(): number {
    return this.#bytes.readUInt32LE(this.skip(4))
  }

  /** A 64-bit count; sums of them stay exact far beyond the size of any file. */
  u64(max: number, what: string): number {
    const value = Number(this.#bytes.readBigUInt64LE(this.skip(8)))
    if (value > max) throw new Broken(`its ${what} is impossible`)
    return value
  }

  text(): string {
    const length = this.u64(limits.stringBytes, 'text length')
    const start = this.skip(length)
    return this.#bytes.toString('utf8', start, start + length)
  }

  skipText(): void {
    this.skip(this.u64(limits.stringBytes, 'text length'))
  }
}

function skipValue(cursor: Cursor, type: number): void {
  const bytes = valueBytes[type]
  if (bytes !== undefined) {
    cursor.skip(bytes)
  } else if (type === typeString) {
    cursor.skipText()
  } else if (type === typeArray) {
    const itemType = cursor.u32()
    const count = cursor.u64(Number.MAX_SAFE_INTEGER, 'array length')
    const itemBytes = valueBytes[itemType]
    if (itemBytes !== undefined) cursor.skip(count * itemBytes)
    else for (let item = 0; item < count; item += 1) skipValue(cursor, itemType)
  } else {
    throw new Broken(`a value has the unknown type ${type}`)
  }
}

/** The alignment of the tensor data, which one of the values may set. */
function readAlignment(cursor: Cursor, valueCount: number): number {
  let alignment = 32
  for (let value = 0; value < valueCount; value += 1) {
    const key = cursor.text()
    const type = cursor.u32()
    if (key === 'general.alignment' && type === typeUint32) alignment = cursor.u32()
    else skipValue(cursor, type)
  }
  if (alignment === 0) throw new Broken('its alignment is 0')
  return alignment
}

/** Where the last tensor ends, counted from the start of the tensor data. */
function readTensorsEnd(cursor: Cursor, tensorCount: number): number {
  let end = 0
  for (let tensor = 0; tensor < tensorCount; tensor += 1) {
    cursor.skipText()
    const dimensions = cursor.u32()
    if (dimensions > limits.dimensions) throw new Broken('a tensor has too many dimensions')
    let values = 1
    for (let at = 0; at < dimensions; at += 1) {
      values *= cursor.u64(Number.MAX_SAFE_INTEGER, 'tensor dimension')
    }
    const block = blocks[cursor.u32()]
    const start = cursor.u64(Number.MAX_SAFE_INTEGER, 'tensor offset')
    // A type newer than this table: its length is unknown, so only its start is required.
    end = Math.max(end, start + (block ? (values / block[0]) * block[1] : 0))
  }
  return end
}

/** Reads the head at the start of `bytes`. */
export function readGgufHeader(bytes: Buffer): GgufVerdict {
  if (bytes.length >= 4 && bytes.toString('latin1', 0, 4) !== 'GGUF') {
    return { kind: 'broken', reason: 'it does not begin with "GGUF"' }
  }
  const cursor = new Cursor(bytes)
  try {
    cursor.skip(4)
    const version = cursor.u32()
    if (version !== 2 && version !== 3) {
      return { kind: 'broken', reason: `its version is ${version}, and 2 and 3 can be read` }
    }
    const tensorCount = cursor.u64(limits.tensors, 'number of tensors')
    const alignment = readAlignment(cursor, cursor.u64(limits.values, 'number of values'))
    const end = readTensorsEnd(cursor, tensorCount)
    const dataStart = Math.ceil(cursor.at / alignment) * alignment
    return {
      kind: 'header',
      header: { version, tensorCount, bytesMin: tensorCount === 0 ? cursor.at : dataStart + end },
    }
  } catch (error) {
    if (error instanceof NeedMore) return { kind: 'more' }
    if (error instanceof Broken) return { kind: 'broken', reason: error.message }
    throw error
  }
}
