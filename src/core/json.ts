/** JSON texts as bytes, for those who look at one without parsing it. */

const quote = 0x22
const backslash = 0x5c
const openBrace = 0x7b
const closeBrace = 0x7d
const openBracket = 0x5b
const closeBracket = 0x5d

/** The offset behind the closing quote of the string that opens at `start`; the length when it never closes. */
export function endOfString(text: Buffer, start: number): number {
  let end = text.indexOf(quote, start + 1)
  while (end !== -1) {
    let slashes = 0
    while (text[end - 1 - slashes] === backslash) slashes += 1
    if (slashes % 2 === 0) return end + 1
    end = text.indexOf(quote, end + 1)
  }
  return text.length
}

/** The offset of the next byte that is not white space, from `from` on. */
export function skipSpace(text: Buffer, from: number): number {
  let at = from
  while (at < text.length && (text[at] as number) <= 0x20) at += 1
  return at
}

/**
 * Whether the text is one object from its first byte to its last: what was cut off, or has something behind it, is
 * not. Brackets are counted outside of strings; whether all between them is JSON is left to those who parse it.
 */
export function isWholeObject(text: Buffer): boolean {
  const start = skipSpace(text, 0)
  if (text[start] !== openBrace) return false
  let depth = 0
  for (let at = start; at < text.length; at += 1) {
    const byte = text[at]
    if (byte === quote) at = endOfString(text, at) - 1
    else if (byte === openBrace || byte === openBracket) depth += 1
    else if (byte === closeBrace || byte === closeBracket) {
      depth -= 1
      if (depth === 0) return skipSpace(text, at + 1) === text.length
    }
  }
  return false
}
