import { charsPerToken, estimateAnswerTokens } from '../router/calls/token-estimate.ts'
import type { CallWork, Work } from './task.ts'

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

function estimateTokens(work: CallWork): number {
  const promptTokens = estimatePromptTokens(work)
  if (work.endpoint === '/v1/embeddings') return promptTokens
  return promptTokens + estimateAnswerTokens(work.body)
}

/** By its length. */
export function estimatePromptTokens({ body }: CallWork): number {
  const prompt = body['messages'] ?? body['prompt'] ?? body['input'] ?? ''
  const promptChars = countChars(prompt) + countChars(body['instructions'] ?? '')
  return Math.ceil(promptChars / charsPerToken)
}

/** A text as it is; anything else as its JSON. */
const countChars = (value: unknown): number =>
  typeof value === 'string' ? value.length : JSON.stringify(value).length

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
