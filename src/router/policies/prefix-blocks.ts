import { skipSpace } from '../../core/json.ts'

/** Bytes a block: about 64 tokens of English. A match is a whole number of blocks. */
export const blockBytes = 256
/** Blocks looked at, so that a huge prompt costs no more than its first 128 KiB. */
export const blocksMax = 512

/** How far the next quote is looked for byte by byte: a native search costs about as much as this. */
const nearBytes = 32

const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN_ARRAY = 0x5b
const OPEN_OBJECT = 0x7b
const CLOSE_ARRAY = 0x5d
const CLOSE_OBJECT = 0x7d
const COLON = 0x3a

/**
 * Chained hashes of the whole blocks of a request's prompt, for `PolicyCall.prefixBlocks`: entry i stands for the
 * prompt up to the end of block i, so equal entries mean equal beginnings, and a conversation that goes on matches
 * all whole blocks of its earlier turns. Taken from the bytes of the body as they came, unparsed: `messages` of a
 * chat, `prompt` of a completion. A field that is missing has no blocks.
 *
 * The field is found by its name alone. The same words inside an earlier string would be taken for it, which costs a
 * worse choice of instance and never a wrong answer.
 */
export function hashPrefixBlocks(body: Buffer, field: 'messages' | 'prompt'): readonly number[] {
  const start = findValue(body, field)
  if (start === -1) return []
  const end = findValueEnd(body, start, Math.min(body.length, start + blockBytes * blocksMax))
  return hashBlocks(body, start, end)
}

function findValue(body: Buffer, field: string): number {
  const name = `"${field}"`
  const found = body.indexOf(name, 0, 'latin1')
  if (found === -1) return -1
  let at = skipSpace(body, found + name.length)
  if (body[at] !== COLON) return -1
  at = skipSpace(body, at + 1)
  return at < body.length ? at : -1
}

/**
 * The end of the JSON value at `start`, or `limit` when it is longer. What follows the value (tools, say, which many
 * clients write behind the messages) is no continuation of the prompt and must not count as unmatched blocks.
 */
function findValueEnd(body: Buffer, start: number, limit: number): number {
  let depth = 0
  let at = start
  while (at < limit) {
    const byte = body[at]!
    if (byte === QUOTE) at = findStringEnd(body, at + 1, limit)
    else if (byte === OPEN_ARRAY || byte === OPEN_OBJECT) depth += 1
    else if (byte === CLOSE_ARRAY || byte === CLOSE_OBJECT) depth -= 1
    at += 1
    // The closing bracket stays outside: where it stands now, a longer conversation has its next message.
    if (depth === 0) return Math.min(at - 1, limit)
  }
  return limit
}

/** The offset of the quote that closes the string whose text starts at `from`. */
function findStringEnd(body: Buffer, from: number, limit: number): number {
  let at = from
  let nearEnd = from + nearBytes
  while (at < limit) {
    if (at < nearEnd) {
      const byte = body[at]!
      if (byte === QUOTE) return at
      at += byte === BACKSLASH ? 2 : 1
      continue
    }
    const quote = body.indexOf(QUOTE, at)
    if (quote === -1) return limit
    if (countBackslashes(body, quote) % 2 === 0) return quote
    at = quote + 1
    nearEnd = at + nearBytes
  }
  return limit
}

function countBackslashes(body: Buffer, end: number): number {
  let count = 0
  while (body[end - 1 - count] === BACKSLASH) count += 1
  return count
}

/**
 * Two 32-bit lanes over 4 bytes at a time, in the manner of MurmurHash3, made one number of 53 bits for each block.
 * One lane alone would give a few false matches among a hundred thousand blocks.
 * Source: https://github.com/aappleby/smhasher/blob/master/src/MurmurHash3.cpp
 */
function hashBlocks(body: Buffer, start: number, end: number): number[] {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength)
  const blocks: number[] = []
  let laneA = 0x2f0b4c47
  let laneB = 0x5bd1e995
  for (let blockEnd = start + blockBytes; blockEnd <= end; blockEnd += blockBytes) {
    for (let at = blockEnd - blockBytes; at < blockEnd; at += 4) {
      const word = view.getInt32(at, true)
      laneA = Math.imul(laneA ^ word, 0xcc9e2d51)
      laneA = (laneA << 15) | (laneA >>> 17)
      laneB = Math.imul(laneB + word, 0x1b873593)
      laneB = (laneB << 13) | (laneB >>> 19)
    }
    blocks.push((mix(laneA) >>> 0) * 0x20_0000 + (mix(laneB) >>> 11))
  }
  return blocks
}

function mix(hash: number): number {
  let mixed = hash
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return mixed ^ (mixed >>> 16)
}
