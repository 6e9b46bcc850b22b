import type { LlamaModel, Token } from 'node-llama-cpp'
import { openVocabulary } from './native.ts'

/** Bits of llama.cpp's `llama_token_attr`. */
const attribute = { unknown: 1, normal: 4, control: 8, userDefined: 16, byte: 32 }

/** A token as it appears in text. */
export type Piece = {
  bytes: Buffer
  /** The bytes as text, where they are whole characters; null where a token is a part of one. */
  text: string | null
}

const replacement = '\u{fffd}'

/** What each token id stands for. Pieces are made once and kept: reading a token costs one array access. */
export class Vocabulary {
  readonly size: number
  readonly #model: LlamaModel
  readonly #addon: ReturnType<typeof openVocabulary>
  readonly #pieces: (Piece | undefined)[] = []
  #longestBytes = 0
  #controlTexts: Map<string, number> | null = null

  constructor(model: LlamaModel, size: number) {
    this.#model = model
    this.#addon = openVocabulary(model)
    this.size = size
  }

  has(token: number): boolean {
    return Number.isInteger(token) && token >= 0 && token < this.size
  }

  /** The text of a token in a reply; control tokens have none. */
  piece(token: number): Piece {
    const known = this.#pieces[token]
    if (known) return known
    const bytes = this.#isControl(token) ? Buffer.alloc(0) : this.#bytesOf(token)
    const text = bytes.toString('utf8')
    const piece = { bytes, text: text.includes(replacement) ? null : text }
    this.#pieces[token] = piece
    return piece
  }

  /** The token's own name, control tokens included, such as `<|im_end|>`. For logprobs. */
  nameOf(token: number): string {
    if (this.#isControl(token)) return this.#addon.getTokenString(token)
    return this.piece(token).bytes.toString('utf8')
  }

  /** Bytes of the longest token: no text has fewer tokens than its bytes divided by this. */
  get longestBytes(): number {
    if (this.#longestBytes > 0) return this.#longestBytes
    let longest = 1
    for (let token = 0; token < this.size; token += 1) {
      longest = Math.max(longest, Buffer.byteLength(this.#addon.getTokenString(token)))
    }
    this.#longestBytes = longest
    return longest
  }

  /** Text -> token of every token that steers the model, such as the end of a turn. */
  controlTexts(): ReadonlyMap<string, number> {
    if (this.#controlTexts) return this.#controlTexts
    const texts = new Map<string, number>()
    for (let token = 0; token < this.size; token += 1) {
      const text = this.#isControl(token) ? this.#addon.getTokenString(token) : ''
      if (text !== '') texts.set(text, token)
    }
    this.#controlTexts = texts
    return texts
  }

  #isControl(token: number): boolean {
    return (this.#addon.getTokenAttributes(token) & (attribute.control | attribute.unknown)) !== 0
  }

  /** As llama.cpp's `token_to_piece` does it, but as bytes: a string could not hold half a character. */
  #bytesOf(token: number): Buffer {
    const raw = this.#addon.getTokenString(token)
    const attributes = this.#addon.getTokenAttributes(token)
    if ((attributes & attribute.userDefined) !== 0) return Buffer.from(raw)
    const kind: string = this.#model.vocabularyType
    if (kind === 'spm' || kind === 'ugm') {
      const hex = (attributes & attribute.byte) === 0 ? null : /^<0x([0-9a-f]{2})>$/i.exec(raw)
      return hex
        ? Buffer.from([Number.parseInt(hex[1] as string, 16)])
        : Buffer.from(raw.replaceAll('▁', ' '))
    }
    const bytes = kind === 'bpe' ? decodeByteLevel(raw) : null
    return bytes ?? Buffer.from(this.#model.detokenize([token as Token]))
  }
}

/** Byte-level BPE writes each byte as one printable character; null when `text` holds another one. */
export function decodeByteLevel(text: string): Buffer | null {
  const bytes: number[] = []
  for (const character of text) {
    const byte = byteOf.get(character)
    if (byte === undefined) return null
    bytes.push(byte)
  }
  return Buffer.from(bytes)
}

/** GPT-2's table: printable bytes stand for themselves, the other 68 for the characters from U+0100 on. */
const byteOf = new Map<string, number>()
for (let byte = 0, next = 0x100; byte < 256; byte += 1) {
  const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
  byteOf.set(String.fromCodePoint(printable ? byte : next), byte)
  if (!printable) next += 1
}
