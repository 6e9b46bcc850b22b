import { fail } from '../core/errors.ts'
import type { Item } from '../router/responses/items.ts'
import { refuseOthers, type Query } from './task-query.ts'

/** Of a list that the `openai` package sends as `include[]=…`. */
const includeNames = ['include', 'include[]']

/** The query of `GET /v1/responses/{id}`. Throws invalid_request, naming the parameter. */
export function parseResponseQuery(query: Query): { stream: boolean; startingAfter: number } {
  refuseOthers(query, ['stream', 'starting_after', 'include_obfuscation', ...includeNames])
  checkInclude(query)
  if (readFlag(query, 'include_obfuscation')) {
    throw fail('unsupported_parameter', {
      message: '`include_obfuscation` is not supported: events are not padded.',
      param: 'include_obfuscation',
    })
  }
  const stream = readFlag(query, 'stream')
  const after = query['starting_after']
  if (after === undefined) return { stream, startingAfter: -1 }
  if (!stream) throw invalid('starting_after', 'belongs to `stream=true`')
  if (typeof after !== 'string' || !/^\d{1,9}$/.test(after)) {
    throw invalid('starting_after', 'must be the number of an event')
  }
  return { stream, startingAfter: Number(after) }
}

export type ItemsPage = { limit: number; after: string | null; ascending: boolean }

/** The query of `GET /v1/responses/{id}/input_items`. */
export function parseItemsQuery(query: Query): ItemsPage {
  refuseOthers(query, ['limit', 'order', 'after', ...includeNames])
  checkInclude(query)
  const { limit = '20', order = 'desc', after = null } = query
  if (typeof limit !== 'string' || !/^\d{1,3}$/.test(limit) || Number(limit) < 1 || Number(limit) > 100) {
    throw invalid('limit', 'must be a whole number from 1 to 100')
  }
  if (order !== 'asc' && order !== 'desc') throw invalid('order', 'must be asc or desc')
  if (Array.isArray(after)) throw invalid('after', 'must be given once')
  return { limit: Number(limit), after, ascending: order === 'asc' }
}

/** A page of items, as OpenAI's lists are. Throws invalid_request for an unknown `after`. */
export function pageItems(items: readonly Item[], { limit, after, ascending }: ItemsPage) {
  const ordered = ascending ? items : items.toReversed()
  const start = after === null ? 0 : ordered.findIndex(({ id }) => id === after) + 1
  if (after !== null && start === 0) throw invalid('after', 'must be the id of an item of this list')
  const data = ordered.slice(start, start + limit)
  return {
    object: 'list' as const,
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: start + limit < ordered.length,
  }
}

function readFlag(query: Query, name: string): boolean {
  const value = query[name] ?? 'false'
  if (value === 'true' || value === 'false') return value === 'true'
  throw invalid(name, 'must be true or false')
}

/** Both are in the answer anyway. */
const included = ['message.output_text.logprobs', 'message.input_image.image_url']

function checkInclude(query: Query): void {
  for (const name of includeNames.flatMap((key) => query[key] ?? [])) {
    if (included.includes(name)) continue
    throw fail('unsupported_parameter', {
      message: `\`include\` is not supported with ${JSON.stringify(name.slice(0, 100))}.`,
      param: 'include',
    })
  }
}

const invalid = (param: string, what: string) =>
  fail('invalid_request', { message: `\`${param}\` ${what}.`, param })
