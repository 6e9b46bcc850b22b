type Fields = Readonly<Record<string, unknown>>

/** Of English text and of JSON around it. */
export const charsPerToken = 4
/** For an answer whose length nobody bounds. */
const answerTokensDefault = 256
/** More than any model answers: a mistyped limit must not set its tenant back for years. */
const answerTokensMax = 1_000_000
const choicesMax = 128

/** The longest answers that a body asks for, in tokens; what is usual where it names no limit. */
export function estimateAnswerTokens(body: Fields): number {
  const limit = body['max_completion_tokens'] ?? body['max_tokens'] ?? body['max_output_tokens']
  const answerTokens = readCount(limit, { fallback: answerTokensDefault, max: answerTokensMax })
  const choices = readCount(body['n'], { fallback: 1, max: choicesMax })
  return answerTokens * Math.max(1, choices)
}

function readCount(value: unknown, { fallback, max }: { fallback: number; max: number }): number {
  return typeof value === 'number' && value >= 0 ? Math.min(value, max) : fallback
}
