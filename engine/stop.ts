/**
 * Finds stop strings in a text that comes piece by piece. What could still become a stop string is held back, so no
 * part of one is ever given out, wherever the pieces are cut.
 */
export class StopMatcher {
  readonly #stops: readonly string[]
  #held = ''

  constructor(stops: readonly string[]) {
    this.#stops = stops
  }

  /** The text that is safe to give out now, and whether a stop string was found: the text ends before it. */
  push(piece: string): { text: string; stopped: boolean } {
    if (this.#stops.length === 0) return { text: piece, stopped: false }
    const text = this.#held + piece
    const at = findFirst(text, this.#stops)
    if (at !== -1) {
      this.#held = ''
      return { text: text.slice(0, at), stopped: true }
    }
    const safe = text.length - heldLength(text, this.#stops)
    this.#held = text.slice(safe)
    return { text: text.slice(0, safe), stopped: false }
  }

  /** What was held back, at the end of the text: it did not become a stop string. */
  flush(): string {
    const text = this.#held
    this.#held = ''
    return text
  }
}

/** Where the earliest of the stop strings begins in `text`; -1 when there is none. */
function findFirst(text: string, stops: readonly string[]): number {
  let first = -1
  for (const stop of stops) {
    const at = text.indexOf(stop)
    if (at !== -1 && (first === -1 || at < first)) first = at
  }
  return first
}

/** Length of the longest end of `text` that is the beginning of a stop string. */
function heldLength(text: string, stops: readonly string[]): number {
  let longest = 0
  for (const stop of stops) {
    for (let length = Math.min(stop.length - 1, text.length); length > longest; length -= 1) {
      if (text.endsWith(stop.slice(0, length))) longest = length
    }
  }
  return longest
}
