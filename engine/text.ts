import { TextDecoder } from 'node:util'
import type { Piece } from './vocabulary.ts'

/**
 * Turns the pieces of tokens into text without ever cutting a character: bytes of an unfinished character wait for
 * the rest. A character that never becomes whole at the end of a reply is left out.
 */
export class TextAssembler {
  #decoder: TextDecoder | null = null

  push(piece: Piece): string {
    if (this.#decoder === null) {
      // Nearly every token is whole characters; its text is known.
      if (piece.text !== null) return piece.text
      this.#decoder = new TextDecoder('utf-8', { ignoreBOM: true })
    }
    return this.#decoder.decode(piece.bytes, { stream: true })
  }
}
