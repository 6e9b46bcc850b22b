/** Large texts that their readers have not taken yet, of all readers together, in characters. */
const heldCharsMax = 128 * 1024 * 1024
/** Smaller than this, a text is no more than a connection costs anyway. */
const largeChars = 256 * 1024

/**
 * What readers that do not read keep in memory until they are cut off: when there are many of them, one more is to
 * come back for its own.
 */
export class SlowReaders {
  readonly #heldCharsMax: number
  #heldChars = 0

  constructor(limits = { heldCharsMax }) {
    this.#heldCharsMax = limits.heldCharsMax
  }

  /** Calls `send` while there is room for a text of this length; false, and nothing done, when there is none. */
  async send(chars: number, send: () => Promise<unknown>): Promise<boolean> {
    const held = chars < largeChars ? 0 : chars
    // One alone always has room, however large it is.
    if (held > 0 && this.#heldChars > 0 && this.#heldChars + held > this.#heldCharsMax) return false
    this.#heldChars += held
    try {
      await send()
    } finally {
      this.#heldChars -= held
    }
    return true
  }
}
