import type { CallWork, Work } from './task.ts'

/** Of English text and of JSON around it. */
const charsPerToken = 4
/** For an answer whose length nobody bounds. */
const answerTokensDefault = 256
/** More than any model answers: a mistyped limit must not set its tenant back for years. */
const answerTokensMax = 1_000_000
const choicesMax = 128

/**
 * What a task costs its tenant: estimated tokens, divided by the tenant's weight. A tenant of twice the weight moves
 * half as far back in the line for the same work. Never below 1 / weight.
 */
export function estimateCost(work: Work, weight: number): number {
  const tokens =
    work.endpoint === 'sequence'
      ? work.steps.reduce((sum, step) => sum + estimateTokens(step), 0)
      : estimateTokens(work)
  return Math.max(1, tokens) / weight
}

function estimateTokens({ endpoint, body }: CallWork): number {
  const prompt = body['messages'] ?? body['prompt'] ?? body['input'] ?? ''
  const promptChars = countChars(prompt) + countChars(body['instructions'] ?? '')
  const promptTokens = Math.ceil(promptChars / charsPerToken)
  if (endpoint === '/v1/embeddings') return promptTokens
  const answerTokens = readCount(
    body['max_completion_tokens'] ?? body['max_tokens'] ?? body['max_output_tokens'],
    { fallback: answerTokensDefault, max: answerTokensMax },
  )
  const choices = readCount(body['n'], { fallback: 1, max: choicesMax })
  return promptTokens + answerTokens * Math.max(1, choices)
}

/** A text as it is; anything else as its JSON. */
const countChars = (value: unknown): number =>
  typeof value === 'string' ? value.length : JSON.stringify(value).length

function readCount(value: unknown, { fallback, max }: { fallback: number; max: number }): number {
  return typeof value === 'number' && value >= 0 ? Math.min(value, max) : fallback
}

/** Of so many claims one may go to an aged band. */
const claimsPerAged = 4

/**
 * Whose turn the next claims are: of every four, one at most goes to a less urgent band that has waited too long. A
 * counter and not a die: over any four claims in a row the share is exact, and a test can follow it.
 */
export class AgedTurns {
  #sinceAged = 0

  /** How many of the next `limit` claims may go to aged bands. */
  slots(limit: number): number {
    return Math.floor((this.#sinceAged + limit) / claimsPerAged)
  }

  /** `claimed` tasks were taken, at most `allowed` of them from aged bands. */
  note(claimed: number, allowed: number): void {
    // Turns that nobody needed are not saved up: after an hour without aged tasks they don't come all at once.
    const spent = Math.min(claimed, allowed)
    this.#sinceAged = Math.max(
      0,
      Math.min(this.#sinceAged + claimed - spent * claimsPerAged, claimsPerAged - 1),
    )
  }
}
