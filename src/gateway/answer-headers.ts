import type { AnswerHead } from '../router/call.ts'
import { appendRateHeaders } from './limits/rate-headers.ts'
import type { RequestRecord } from './request-record.ts'

/** What a model's answer tells of how it came about, and of what is left to its caller: names and values in turn. */
export function listAnswerHeaders(head: AnswerHead, record: RequestRecord): string[] {
  const headers = ['x-request-id', record.id]
  headers.push('x-autoglm-model', toHeaderValue(head.model))
  headers.push('x-autoglm-instance', toHeaderValue(head.instance.id))
  const { cache, cacheAgeMs, pass } = record
  if (cache !== null) headers.push('x-autoglm-cache', cache)
  if (cacheAgeMs !== null) headers.push('age', String(Math.floor(cacheAgeMs / 1000)))
  if (head.retryAfter !== null) headers.push('retry-after', head.retryAfter)
  const rates = pass === null ? null : pass.rates
  if (rates !== null) appendRateHeaders(headers, rates)
  return headers
}

/** Names may hold any character, header values only some: the others are percent-encoded. */
const toHeaderValue = (text: string) => (/^[\x20-\x7e]*$/.test(text) ? text : encodeURIComponent(text))
