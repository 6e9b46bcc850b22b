/**
 * Server-sent events as bytes. The relay forwards whole events only, so that a broken upstream never leaves half an
 * event in front of the error that explains it.
 * Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
 */

const LF = 0x0a
const CR = 0x0d

/** The offset just behind the last complete event in `bytes`; 0 when none is complete. */
export function endOfLastEvent(bytes: Buffer): number {
  let end = bytes.length
  while (end > 0) {
    const lf = bytes.lastIndexOf(LF, end - 1)
    if (lf < 1) return 0
    const before = bytes[lf - 1]
    if (before === LF) return lf + 1
    if (before === CR && lf > 1 && bytes[lf - 2] === LF) return lf + 1
    end = lf
  }
  return 0
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
  return events
}

/** The `data` of one event: its data lines joined by a newline, or null when it has none (a comment, say). */
export function readEventData(event: Buffer): string | null {
  let data: string | null = null
  for (const line of event.toString('utf8').split(/\r?\n/)) {
    if (!line.startsWith('data:')) continue
    const value = line.slice(line.startsWith('data: ') ? 6 : 5)
    data = data === null ? value : `${data}\n${value}`
  }
  return data
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
  let rest: Buffer = Buffer.alloc(0)
  for await (const chunk of chunks) {
    rest = rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([rest, chunk])
    const end = endOfLastEvent(rest)
    for (const event of splitEvents(rest.subarray(0, end))) {
      const data = readEventData(event)
      if (data !== null) yield data
    }
    rest = rest.subarray(end)
    if (rest.length > limits.eventBytesMax) {
      throw new Error(`an event is larger than ${limits.eventBytesMax} bytes`)
    }
  }
}
