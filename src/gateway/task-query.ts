import { fail, type ApiError } from '../core/errors.ts'
import { readTimeMs } from '../queue/request-time.ts'
import { taskRequestLimits } from '../queue/task-request.ts'
import { toBand } from '../queue/task.ts'
import type { TaskFilter } from '../storage/task-store.ts'
import { taskStatuses, type TaskStatus } from '../storage/task-states.ts'

/** A query as Fastify gives it: a parameter that is there twice is an array. */
export type Query = Readonly<Record<string, string | string[] | undefined>>

const listLimits = { limitDefault: 20, limitMax: 100, modelCharsMax: 512 } as const

/** `task_01k9…`, `batch_…`: anything else can be the id of nothing. */
const idPattern = /^[A-Za-z][\w-]{0,127}$/
const metadataPattern = /^metadata\[([^]*)\]$/

const listParameters = [
  'status',
  'priority',
  'model',
  'created_after',
  'created_before',
  'metadata[KEY]',
  'batch',
  'after',
  'order',
  'limit',
] as const

/** Whether `text` has the form of an id; one that has not is not worth a look into the storage. */
export const isId = (text: string): boolean => idPattern.test(text)

/** The query of `GET /v1/tasks`. Throws invalid_request, naming the parameter. */
export function parseTaskList(query: Query, tenant: string): TaskFilter {
  const known = new Set<string>(listParameters)
  for (const name of Object.keys(query)) {
    if (!known.has(name) && !metadataPattern.test(name)) throw unknown(name, listParameters)
  }
  const statuses = readStatuses(query['status'])
  const priority = readOne(query, 'priority')
  const band = priority === null ? null : toBand(toNumber(priority))
  const model = readModel(query)
  const createdFromMs = readTime(query, 'created_after')
  const createdToMs = readTime(query, 'created_before')
  const metadata = readMetadata(query)
  const batch = readId(query, 'batch')
  const after = readCursor(query)
  return {
    tenant,
    ...(statuses === null ? {} : { statuses }),
    ...(band === null ? {} : { bandMin: band, bandMax: band }),
    ...(model === null ? {} : { model }),
    ...(createdFromMs === null ? {} : { createdFromMs }),
    ...(createdToMs === null ? {} : { createdToMs }),
    ...(metadata === null ? {} : { metadata }),
    ...(batch === null ? {} : batch === 'none' ? { ownOnly: true } : { parent: batch }),
    ...(after === null ? {} : { after }),
    ...(readOrder(query) === 'asc' ? { ascending: true } : {}),
    limit: readLimit(query),
  }
}

/** The query of `GET /v1/tasks/{id}`: whether the submitted body is to be shown. */
export function parseInclude(query: Query): { showsBody: boolean } {
  refuseOthers(query, ['include'])
  const wanted = splitList(query['include'])
  const stranger = wanted.find((name) => name !== 'body')
  if (stranger !== undefined) throw invalid('include', `can be body; it is ${quote(stranger)}`)
  return { showsBody: wanted.length > 0 }
}

/** Where a follower was: the last state it has seen, and whether it has seen the result that came with it. */
export type EventPlace = { seq: number; hasResult: boolean }

/** `7` is behind the state 7, `7.1` behind the result that followed it. `after` is stronger than the header. */
export function parsePlace(query: Query, lastEventId: string | string[] | undefined): EventPlace {
  refuseOthers(query, ['after'])
  const param = query['after'] === undefined ? 'Last-Event-ID' : 'after'
  const text = readOne(query, 'after') ?? [lastEventId ?? ''].flat()[0] ?? ''
  // Browsers send the header empty where they have seen no id.
  if (text === '' && param !== 'after') return { seq: 0, hasResult: false }
  const found = /^(\d{1,9})(\.1)?$/.exec(text)
  if (found) return { seq: Number(found[1]), hasResult: found[2] !== undefined }
  throw invalid(param, `must be the \`id\` of an event, such as 3; it is ${quote(text)}`)
}

/** Throws invalid_request for a query where none is expected, or for parameters that are not `known`. */
export function refuseOthers(query: Query, known: readonly string[]): void {
  for (const name of Object.keys(query)) {
    if (!known.includes(name)) throw unknown(name, known)
  }
}

function readStatuses(value: Query[string]): TaskStatus[] | null {
  if (value === undefined) return null
  const names = splitList(value)
  const stranger = names.find((name) => !(taskStatuses as string[]).includes(name))
  if (stranger === undefined && names.length > 0) return [...new Set(names)] as TaskStatus[]
  throw invalid('status', `must be one or more of ${taskStatuses.join(', ')}; it is ${quote(stranger ?? '')}`)
}

function readModel(query: Query): string | null {
  const model = readOne(query, 'model')
  if (model === null) return null
  const { modelCharsMax } = listLimits
  if (model.length < 1 || model.length > modelCharsMax || hasNul(model)) {
    throw invalid('model', `must be the name of a model, of 1 to ${modelCharsMax} characters`)
  }
  return model
}

function readMetadata(query: Query): Record<string, string> | null {
  const { metadataPairsMax, metadataKeyCharsMax, metadataValueCharsMax } = taskRequestLimits
  const pairs = Object.keys(query).flatMap((name) => {
    const key = metadataPattern.exec(name)?.[1]
    return key === undefined ? [] : [[key, readOne(query, name) ?? ''] as const]
  })
  if (pairs.length === 0) return null
  if (pairs.length > metadataPairsMax) {
    throw invalid('metadata', `can be asked for at most ${metadataPairsMax} pairs; there are ${pairs.length}`)
  }
  for (const [key, value] of pairs) {
    const fits = key.length <= metadataKeyCharsMax && value.length <= metadataValueCharsMax
    if (key === '' || !fits || hasNul(key) || hasNul(value)) {
      const sizes = `a key of 1 to ${metadataKeyCharsMax} and a value of at most ${metadataValueCharsMax} characters`
      throw invalid(`metadata[${key.slice(0, 100)}]`, `must have ${sizes}`)
    }
  }
  return Object.fromEntries(pairs)
}

function readTime(query: Query, name: string): number | null {
  const text = readOne(query, name)
  return text === null ? null : readTimeMs(toNumber(text), name)
}

function readId(query: Query, name: string): string | null {
  const id = readOne(query, name)
  if (id === null || isId(id)) return id
  throw invalid(name, `must be an id as this server gives them; it is ${quote(id)}`)
}

/** The id of a task, be it removed by now. Any other would stand somewhere in their order and skip tasks in silence. */
function readCursor(query: Query): string | null {
  const after = readId(query, 'after')
  if (after === null || after.startsWith('task_')) return after
  throw invalid('after', `must be the \`last_id\` of a page; it is ${quote(after)}`)
}

function readOrder(query: Query): 'asc' | 'desc' {
  const order = readOne(query, 'order') ?? 'desc'
  if (order === 'asc' || order === 'desc') return order
  throw invalid('order', `must be desc (newest first) or asc; it is ${quote(order)}`)
}

function readLimit(query: Query): number {
  const text = readOne(query, 'limit')
  if (text === null) return listLimits.limitDefault
  const limit = toNumber(text)
  if (Number.isInteger(limit) && (limit as number) >= 1 && (limit as number) <= listLimits.limitMax) {
    return limit as number
  }
  throw invalid('limit', `must be a whole number from 1 to ${listLimits.limitMax}; it is ${quote(text)}`)
}

/** The one value of a parameter, or null when it is not there. */
function readOne(query: Query, name: string): string | null {
  const value = query[name]
  if (value === undefined) return null
  if (typeof value === 'string') return value
  throw invalid(name, 'can be given once only')
}

/** `a,b`, and the same name given twice. */
const splitList = (value: Query[string]): string[] =>
  [value ?? []]
    .flat()
    .flatMap((text) => text.split(','))
    .map((name) => name.trim())
    .filter((name) => name !== '')

const toNumber = (text: string): unknown => (/^\d{1,15}(\.\d{1,9})?$/.test(text) ? Number(text) : text)

const hasNul = (text: string): boolean => text.includes('\0')

const quote = (text: string): string => JSON.stringify(text.slice(0, 100))

const invalid = (param: string, what: string): ApiError =>
  fail('invalid_request', { message: `\`${param}\` ${what}.`, param })

function unknown(name: string, known: readonly string[]): ApiError {
  const param = name.slice(0, 100)
  const others = known.length === 0 ? 'there are none' : `known are ${known.join(', ')}`
  return fail('invalid_request', { message: `\`${param}\` is not a parameter here; ${others}.`, param })
}
