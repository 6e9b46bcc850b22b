import { fail, type ApiError } from '../core/errors.ts'
import { isId, type Query } from './task-query.ts'

/** Which page of a list is wanted, in the words of OpenAI's lists. */
export type PageQuery = { after: string | null; ascending: boolean; limit: number; purpose: string | null }

/** Reads the query of a list. Throws invalid_request, naming the parameter. */
export function parsePage(
  query: Query,
  rules: {
    known: readonly ('after' | 'order' | 'limit' | 'purpose')[]
    limitDefault: number
    limitMax: number
  },
): PageQuery {
  const { known, limitDefault, limitMax } = rules
  for (const [name, value] of Object.entries(query)) {
    const param = name.slice(0, 100)
    if (!(known as readonly string[]).includes(name)) {
      throw invalid(param, `is not a parameter here; known are ${known.join(', ')}`)
    }
    if (typeof value !== 'string') throw invalid(param, 'can be given once only')
  }
  const { after, order = 'desc', limit, purpose } = query as Readonly<Record<string, string | undefined>>
  if (after !== undefined && !isId(after)) throw invalid('after', 'must be an id as this server gives them')
  if (order !== 'asc' && order !== 'desc') throw invalid('order', 'must be desc (newest first) or asc')
  const count = limit === undefined ? limitDefault : /^\d{1,9}$/.test(limit) ? Number(limit) : 0
  if (count < 1 || count > limitMax) throw invalid('limit', `must be a whole number from 1 to ${limitMax}`)
  return { after: after ?? null, ascending: order === 'asc', limit: count, purpose: purpose ?? null }
}

/** A page as OpenAI's clients read it. */
export const toPage = <T extends { id: string }>(data: readonly T[], hasMore: boolean) => ({
  object: 'list',
  data,
  first_id: data[0]?.id ?? null,
  last_id: data.at(-1)?.id ?? null,
  has_more: hasMore,
})

const invalid = (param: string, what: string): ApiError =>
  fail('invalid_request', { message: `\`${param}\` ${what}.`, param })
