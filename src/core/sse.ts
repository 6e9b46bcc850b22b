/**
 * Server-sent events as bytes. The relay forwards whole events only, so that a broken upstream never leaves half an
 * event in front of the error that explains it.
 * Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
 */

const LF = 0x0a
const CR = 0x0d
/** Between the events of a stream whose lines all end in CR alone: the standard allows it, and next to nobody writes so. */
const emptyCrLine = Buffer.from('\r\r')

/** Whether a body of this content type is a stream of events. */
export const isEventStream = (contentType: string): boolean => /^\s*text\/event-stream/i.test(contentType)

/** The offset just behind the last complete event in `bytes`; 0 when none is complete. */
export function endOfLastEvent(bytes: Buffer): number {
  let end = bytes.length
  // Nearly every chunk of a stream is one whole event.
  if (end > 1 && bytes[end - 1] === LF && bytes[end - 2] === LF) return end
  while (end > 0) {
    const lf = bytes.lastIndexOf(LF, end - 1)
    if (lf < 1) break
    const before = bytes[lf - 1]
    if (before === LF) return lf + 1
    if (before === CR && lf > 1 && bytes[lf - 2] === LF) return lf + 1
    end = lf
  }
  const cr = bytes.lastIndexOf(emptyCrLine)
  return cr === -1 ? 0 : cr + emptyCrLine.length
}

/** The events in `bytes`, each with its separator, as views on it. `bytes` must end with a complete event. */
export function splitEvents(bytes: Buffer): Buffer[] {
  const events: Buffer[] = []
  let start = 0
  for (let at = bytes.indexOf(LF); at !== -1; at = bytes.indexOf(LF, at + 1)) {
    const next = bytes[at + 1] === CR ? at + 2 : at + 1
    if (bytes[next] !== LF) continue
    events.push(bytes.subarray(start, next + 1))
    start = next + 1
    at = next
  }
  return start === 0 ? splitCrEvents(bytes) : events
}

function splitCrEvents(bytes: Buffer): Buffer[] {
  const events: Buffer[] = []
  let start = 0
  for (let at = bytes.indexOf(emptyCrLine); at !== -1; at = bytes.indexOf(emptyCrLine, start)) {
    events.push(bytes.subarray(start, at + emptyCrLine.length))
    start = at + emptyCrLine.length
  }
  return events
}

/** The `data` of one event: its data lines joined by a newline, or null when it has none (a comment, say). */
export function readEventData(event: Buffer): string | null {
  let data: string | null = null
  for (const line of event.toString('utf8').split(/\r\n?|\n/)) {
    if (!line.startsWith('data:')) continue
    const value = line.slice(line.startsWith('data: ') ? 6 : 5)
    data = data === null ? value : `${data}\n${value}`
  }
  return data
}

/** Puts the pieces in which a stream arrives together to whole events. Takes time in proportion to the bytes. */
export class EventAssembler {
  readonly #eventBytesMax: number
  #held: Buffer[] = []
  #heldBytes = 0

  constructor(limits: { eventBytesMax: number }) {
    this.#eventBytesMax = limits.eventBytesMax
  }

  /** Bytes of an event whose end has not come. */
  get heldBytes(): number {
    return this.#heldBytes
  }

  get isOverfull(): boolean {
    return this.#heldBytes > this.#eventBytesMax
  }

  /** All events that `chunk` completes, in one piece; null when it completes none. */
  push(chunk: Buffer): Buffer | null {
    if (this.#heldBytes === 0) {
      const end = endOfLastEvent(chunk)
      if (end === chunk.length) return chunk
      this.#hold(chunk.subarray(end))
      return end === 0 ? null : chunk.subarray(0, end)
    }
    // The empty line may have begun in what is held: three bytes of it are enough to see that.
    const before = this.#lastBytes(3)
    const end = endOfLastEvent(Buffer.concat([before, chunk])) - before.length
    if (end <= 0) {
      this.#hold(chunk)
      return null
    }
    const events = Buffer.concat([...this.#held, chunk.subarray(0, end)])
    this.#held = []
    this.#heldBytes = 0
    if (end < chunk.length) this.#hold(chunk.subarray(end))
    return events
  }

  #hold(bytes: Buffer): void {
    this.#held.push(bytes)
    this.#heldBytes += bytes.length
  }

  #lastBytes(count: number): Buffer {
    const last: Buffer[] = []
    let missing = count
    for (let i = this.#held.length - 1; i >= 0 && missing > 0; i -= 1) {
      const piece = (this.#held[i] as Buffer).subarray(-missing)
      last.unshift(piece)
      missing -= piece.length
    }
    return last.length === 1 ? (last[0] as Buffer) : Buffer.concat(last)
  }
}

/** `data: …` and the blank line, for a JSON value. */
export function formatEvent(value: unknown): string {
  return `data: ${JSON.stringify(value)}\n\n`
}

/** The data of each event of a byte stream, as it completes. An unfinished event at the end is dropped, as specified. */
export async function* readEvents(
  chunks: AsyncIterable<Uint8Array>,
  limits = { eventBytesMax: 4 * 1024 * 1024 },
): AsyncGenerator<string> {
  const assembler = new EventAssembler(limits)
  for await (const chunk of chunks) {
    const events = assembler.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))
    if (assembler.isOverfull) throw new Error(`an event is larger than ${limits.eventBytesMax} bytes`)
    if (events === null) continue
    for (const event of splitEvents(events)) {
      const data = readEventData(event)
      if (data !== null) yield data
    }
  }
}
