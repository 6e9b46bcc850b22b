import type { TokenLogprobs } from './job.ts'
import type { Vocabulary } from './vocabulary.ts'

/** JSON has no -Infinity; OpenAI writes this for what can hardly be. */
const logprobMin = -9999

/** The lists of the completions route. `offset` is where the first token begins in the text. */
export type CompletionLogprobs = {
  tokens: string[]
  token_logprobs: (number | null)[]
  top_logprobs: (Record<string, number> | null)[] | null
  text_offset: number[]
}

export function formatCompletionLogprobs(
  entries: readonly TokenLogprobs[],
  vocabulary: Vocabulary,
  position: { offset: number; top: number },
): CompletionLogprobs {
  let offset = position.offset
  const result: CompletionLogprobs = {
    tokens: [],
    token_logprobs: [],
    top_logprobs: position.top > 0 ? [] : null,
    text_offset: [],
  }
  for (const entry of entries) {
    const name = nameOf(entry.token, vocabulary)
    result.tokens.push(name)
    result.token_logprobs.push(bound(entry.logprob))
    result.text_offset.push(Math.max(0, offset))
    const top = entry.top.map((other) => [nameOf(other.token, vocabulary), bound(other.logprob)] as const)
    result.top_logprobs?.push(Object.fromEntries(top))
    offset += lengthOf(entry.token, vocabulary)
  }
  return result
}

/** Characters (code points) of a token in the text; the bytes of a split character count where it begins. */
export function lengthOf(token: number, vocabulary: Vocabulary): number {
  let length = 0
  for (const byte of vocabulary.piece(token).bytes) if ((byte & 0xc0) !== 0x80) length += 1
  return length
}

/** The entries of the chat route. */
export function formatChatLogprobs(entries: readonly TokenLogprobs[], vocabulary: Vocabulary) {
  const format = ({ token, logprob }: { token: number; logprob: number }) => ({
    token: vocabulary.nameOf(token),
    logprob: bound(logprob),
    bytes: [...vocabulary.piece(token).bytes],
  })
  return {
    content: entries.map((entry) => ({ ...format(entry), top_logprobs: entry.top.map(format) })),
    refusal: null,
  }
}

/** A part of a character has no text of its own: its bytes name it. */
function nameOf(token: number, vocabulary: Vocabulary): string {
  const { text, bytes } = vocabulary.piece(token)
  if (text !== null) return vocabulary.nameOf(token)
  return `bytes:${[...bytes].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}`
}

function bound(logprob: number): number {
  return Number.isFinite(logprob) ? logprob : logprobMin
}
