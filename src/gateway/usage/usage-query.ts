import { fail, type ApiError } from '../../core/errors.ts'
import { readTimeMs } from '../../queue/request-time.ts'
import {
  dayMs,
  hourMs,
  usageGroups,
  usageWidths,
  type UsageGroup,
  type UsagePlace,
  type UsageQuery,
  type UsageWidth,
} from '../../storage/usage-store.ts'
import type { Caller } from '../auth/caller.ts'
import { isKeyId } from '../auth/key-text.ts'
import { tenantPattern } from '../../core/ids.ts'
import { missingPermission } from '../auth/refusal.ts'
import { refuseOthers, type Query } from '../task-query.ts'
import { monthAt } from './spending.ts'

const parameters = ['start', 'end', 'width', 'group_by', 'tenant', 'key', 'model', 'after', 'limit'] as const

export const usageLimits = { limitDefault: 100, limitMax: 1_000, modelCharsMax: 512 } as const

/** What one question may span: an answer is made from all hours in it. */
const spansMsMax: Readonly<Record<UsageWidth, number>> = {
  hour: 31 * dayMs,
  day: 400 * dayMs,
  month: Infinity,
  all: Infinity,
}

/** How a key is named by which nobody is meant. */
export const noKey = 'none'

/**
 * The query of `GET /v1/usage`: of the caller's own tenant, unless it holds `admin` and names another, or `*` for all.
 * Throws invalid_request, naming the parameter, and forbidden.
 */
export function parseUsageQuery(query: Query, { caller, nowMs }: { caller: Caller; nowMs: number }): UsageQuery {
  refuseOthers(query, parameters)
  const width = readOneOf(query, 'width', usageWidths) ?? 'day'
  const tenant = readTenant(query, caller)
  const key = readKey(query)
  const model = readModel(query)
  const after = readPlace(query)
  return {
    ...readSpan(query, width, nowMs),
    ...{ width, groups: readGroups(query), limit: readLimit(query) },
    ...(tenant === null ? {} : { tenant }),
    ...(key === null ? {} : { key }),
    ...(model === null ? {} : { model }),
    ...(after === null ? {} : { after }),
  }
} // prettier-ignore

/** Whole hours: those in which `start` and the moment before `end` lie are in it. */
function readSpan(query: Query, width: UsageWidth, nowMs: number): { fromMs: number; toMs: number } {
  const startMs = readTime(query, 'start') ?? monthAt(nowMs)
  const endMs = readTime(query, 'end') ?? Math.max(nowMs, startMs + 1)
  if (endMs <= startMs) throw invalid('end', 'must lie after `start`')
  const fromMs = Math.floor(Math.max(0, startMs) / hourMs) * hourMs
  const toMs = Math.ceil(Math.max(1, endMs) / hourMs) * hourMs
  if (toMs - fromMs > spansMsMax[width]) {
    const days = spansMsMax[width] / dayMs
    throw invalid('width', `can be ${width} for ${days} days at most; ask for less time or for wider sums`)
  }
  return { fromMs, toMs }
}

/** Null for all tenants. */
function readTenant(query: Query, { tenant, roles }: Caller): string | null {
  const asked = readOne(query, 'tenant') ?? tenant
  if (asked !== '*' && !tenantPattern.test(asked)) {
    throw invalid('tenant', 'must be 1 to 100 letters, digits, `_`, `.`, `:`, `@` or `-`, or * for all')
  }
  if (asked !== tenant && !roles.has('admin')) {
    const message =
      'Usage of other tenants needs the permission `admin`, which your key or token does not have.'
    throw missingPermission(message, ['admin'])
  }
  return asked === '*' ? null : asked
}

function readKey(query: Query): string | null {
  const key = readOne(query, 'key')
  if (key === null || isKeyId(key)) return key
  if (key === noKey) return ''
  throw invalid('key', `must be the id of a key, or ${noKey} for what no key was shown for`)
}

function readModel(query: Query): string | null {
  const model = readOne(query, 'model')
  const { modelCharsMax } = usageLimits
  if (model === null || (model.length >= 1 && model.length <= modelCharsMax && !model.includes('\0'))) {
    return model
  }
  throw invalid('model', `must be the name of a model, of 1 to ${modelCharsMax} characters`)
}

function readGroups(query: Query): UsageGroup[] {
  const names = [query['group_by'] ?? []]
    .flat()
    .flatMap((text) => text.split(','))
    .map((name) => name.trim())
    .filter((name) => name !== '')
  const stranger = names.find((name) => !(usageGroups as readonly string[]).includes(name))
  if (stranger === undefined) return usageGroups.filter((group) => names.includes(group))
  throw invalid('group_by', `can be ${usageGroups.join(', ')}; it is ${quote(stranger)}`)
}

function readLimit(query: Query): number {
  const { limitDefault, limitMax } = usageLimits
  const text = readOne(query, 'limit') ?? String(limitDefault)
  const limit = /^\d{1,9}$/.test(text) ? Number(text) : 0
  if (limit >= 1 && limit <= limitMax) return limit
  throw invalid('limit', `must be a whole number from 1 to ${limitMax}; it is ${quote(text)}`)
}

/** A sum is named by its place, so that a page can go on behind it. */
export const nameUsage = ({ atMs, tenant, key, model }: UsagePlace): string =>
  `usage_${Buffer.from(JSON.stringify([atMs, tenant, key, model])).toString('base64url')}`

function readPlace(query: Query): UsagePlace | null {
  const after = readOne(query, 'after')
  if (after === null) return null
  try {
    const text = Buffer.from(/^usage_([\w-]{1,4000})$/.exec(after)?.[1] ?? '', 'base64url').toString('utf8')
    const [atMs, ...names] = JSON.parse(text) as unknown[]
    const areNames = names.length === 3 && names.every((name) => typeof name === 'string')
    if (Number.isSafeInteger(atMs) && (atMs as number) >= 0 && areNames) {
      const [tenant, key, model] = names as [string, string, string]
      return { atMs: atMs as number, tenant, key, model }
    }
  } catch {
    // Not one of ours.
  }
  throw invalid('after', `must be the \`last_id\` of a page; it is ${quote(after)}`)
}

function readTime(query: Query, name: string): number | null {
  const text = readOne(query, name)
  if (text === null) return null
  return readTimeMs(/^\d{1,15}(\.\d{1,9})?$/.test(text) ? Number(text) : text, name)
}

function readOneOf<T extends string>(query: Query, name: string, allowed: readonly T[]): T | null {
  const text = readOne(query, name)
  const found = allowed.find((one) => one === text)
  if (text === null || found !== undefined) return found ?? null
  throw invalid(name, `must be one of ${allowed.join(', ')}; it is ${quote(text)}`)
}

function readOne(query: Query, name: string): string | null {
  const value = query[name]
  if (value === undefined) return null
  if (typeof value === 'string') return value
  throw invalid(name, 'can be given once only')
}

const quote = (text: string): string => JSON.stringify(text.slice(0, 100))

const invalid = (param: string, what: string): ApiError =>
  fail('invalid_request', { message: `\`${param}\` ${what}.`, param })
