import type { RequestRecord } from './request-record.ts'

export type UsedTokens = { prompt: number; cached: number; completion: number }

/**
 * What a request has used, as the instance tells it. Where it does not, as in a stream that its client breaks off, the
 * prompt is taken by its length and the answer by its events, which hold a token each: hanging up is no way around a
 * budget. Null where no instance has answered.
 */
export function readUsedTokens(record: RequestRecord): UsedTokens | null {
  if (record.instance === null || record.cache === 'hit') return null
  const { promptTokens, cachedTokens, completionTokens } = record
  const isTold = promptTokens !== null || completionTokens !== null
  return {
    prompt: isTold ? (promptTokens ?? 0) : record.promptEstimate,
    cached: cachedTokens ?? 0,
    completion: isTold ? (completionTokens ?? 0) : record.events,
  }
}
