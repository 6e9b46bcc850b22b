import type { Readable } from 'node:stream'

const lineEnd = 0x0a
/** What has no line end by then is written as it is. */
const lineBytesMax = 1024 * 1024

/**
 * Passes on the log of another process line by line: written by several processes into one pipe, the lines of one
 * would end in the midst of another's. What is no JSON is what Node says of a crash.
 */
export function forwardLines(
  source: Readable,
  { writeLine, writeText }: { writeLine: (line: string) => void; writeText: (text: string) => void },
): void {
  let held: Buffer[] = []
  let heldBytes = 0
  const write = (line: string) => {
    // A process that is killed leaves half a line, and a readable log is made of whole ones.
    if (line.startsWith('{"') && line.endsWith('}\n')) writeLine(line)
    else writeText(line)
  }
  source.on('data', (chunk: Buffer) => {
    const end = chunk.lastIndexOf(lineEnd)
    held.push(end < 0 ? chunk : chunk.subarray(0, end + 1))
    heldBytes += chunk.length
    if (end < 0 && heldBytes < lineBytesMax) return
    for (const line of Buffer.concat(held).toString('utf8').split('\n')) if (line !== '') write(`${line}\n`)
    held = end >= 0 && end + 1 < chunk.length ? [Buffer.from(chunk.subarray(end + 1))] : []
    heldBytes = held[0]?.length ?? 0
  })
  source.on('end', () => {
    if (heldBytes > 0) write(`${Buffer.concat(held).toString('utf8')}\n`)
  })
}
