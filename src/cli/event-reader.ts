import { EventAssembler, splitEvents } from '../core/sse.ts'

/** One server-sent event; `id` is null where it brings none. */
export type ReadEvent = { event: string; id: string | null; data: string }

const eventBytesMax = 64 * 1024 * 1024

/** The events of a byte stream with their names and ids, as they complete. Comments are dropped. */
export async function* readNamedEvents(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<ReadEvent> {
  const assembler = new EventAssembler({ eventBytesMax })
  for await (const chunk of chunks) {
    const whole = assembler.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))
    if (assembler.isOverfull) throw new Error(`an event is larger than ${eventBytesMax} bytes`)
    if (whole === null) continue
    for (const bytes of splitEvents(whole)) {
      const event = parseEvent(bytes.toString('utf8'))
      if (event) yield event
    }
  }
}

function parseEvent(text: string): ReadEvent | null {
  const fields = new Map<string, string[]>()
  for (const line of text.split(/\r?\n/)) {
    const found = /^(event|id|data): ?(.*)$/.exec(line)
    if (found?.[1] === undefined) continue
    fields.set(found[1], [...(fields.get(found[1]) ?? []), found[2] ?? ''])
  }
  const data = fields.get('data')
  if (!data) return null
  return {
    event: fields.get('event')?.at(-1) ?? 'message',
    id: fields.get('id')?.at(-1) ?? null,
    data: data.join('\n'),
  }
}
