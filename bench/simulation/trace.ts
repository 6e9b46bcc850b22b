import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { blockBytes, blocksMax } from '../../src/router/policies/prefix-blocks.ts'

/** One request of a trace; `blocks` are the chained ids of its whole 512-token blocks. */
export type TracedRequest = {
  atMs: number
  inputTokens: number
  outputTokens: number
  blocks: readonly number[]
  sessionKey: string
  /** A stream shows its first token at once; any other answer comes whole, when it is complete. */
  streamed: boolean
}

export const tokensPerBlock = 512

/** Of English text and of JSON around it. */
export const bytesPerToken = 4

/** Beside the checkout, not in it: the traces are another project's. */
export const tracePath = join(
  import.meta.dirname,
  '../../../shared/traces/mooncake/conversation_trace.jsonl.gz',
)

type Line = { timestamp: number; input_length: number; output_length: number; hash_ids: number[] }

/**
 * One hour of conversations, 12,031 requests; null when the file is not there.
 * Source: Qin et al., Mooncake, FAST 2025, https://github.com/kvcache-ai/Mooncake/tree/main/FAST25-release
 */
export function readTrace(): readonly TracedRequest[] | null {
  if (!existsSync(tracePath)) return null
  const lines = gunzipSync(readFileSync(tracePath)).toString('utf8').trim().split('\n')
  const sessions = new SessionGuess()
  return lines.map((text) => {
    const line = JSON.parse(text) as Line
    // The last id stands for a block that is not full, and can match nothing but a repetition.
    const blocks = line.hash_ids.slice(0, Math.floor(line.input_length / tokensPerBlock))
    return {
      atMs: line.timestamp,
      inputTokens: line.input_length,
      outputTokens: Math.max(1, line.output_length),
      blocks,
      sessionKey: sessions.of(blocks),
      streamed: true,
    }
  })
}

/**
 * The trace names no sessions. A request whose known beginning reaches to the end of an earlier request, or to the
 * block before its end, continues that one's session; one that shares only a template in front begins its own.
 */
class SessionGuess {
  #byLastBlock = new Map<number, string>()
  #count = 0

  of(blocks: readonly number[]): string {
    let key: string | undefined
    for (let i = blocks.length - 1; i > 0 && key === undefined; i -= 1)
      key = this.#byLastBlock.get(blocks[i]!)
    if (key === undefined) {
      this.#count += 1
      key = `session-${this.#count}`
    }
    for (const block of blocks.slice(1).slice(-2))
      if (!this.#byLastBlock.has(block)) this.#byLastBlock.set(block, key)
    return key
  }
}

/**
 * The same requests at another speed. The trace counts time in steps of 3 seconds; each request is put at a random
 * moment of its step, which is also what makes one seed differ from another.
 */
export function retime(
  trace: readonly TracedRequest[],
  options: { speedup: number; streamedShare: number; random: () => number },
): TracedRequest[] {
  return trace
    .map((request) => ({
      ...request,
      atMs: (request.atMs + options.random() * 3000) / options.speedup,
      streamed: options.random() < options.streamedShare,
    }))
    .sort((a, b) => a.atMs - b.atMs)
}

/** What the gateway would have hashed of the prompt: the trace's blocks cut into its own, as many as it looks at. */
export function toPrefixBlocks(blocks: readonly number[]): number[] {
  const parts = (tokensPerBlock * bytesPerToken) / blockBytes
  return Array.from(
    { length: Math.min(blocksMax, blocks.length * parts) },
    (_, i) => blocks[Math.floor(i / parts)]! * parts + (i % parts),
  )
}
