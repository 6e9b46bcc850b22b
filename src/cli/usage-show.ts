import { systemClock } from '../core/clock.ts'
import { SetupError } from '../core/errors.ts'
import { usageGroups, usageWidths, type UsageGroup } from '../storage/usage-store.ts'
import { findServer, readPages } from './api-client.ts'
import { readSpanMs } from './flag-values.ts'
import { formatTable } from './models.ts'
import { keepLine } from './plain-text.ts'
import type { UsageOptions } from './usage.ts'

/** What `GET /v1/usage` answers, as far as it is shown. */
export type ShownUsage = {
  id: string
  start: number
  end: number
  tenant: string | null
  key: string | null
  model: string | null
  requests: number
  failed_requests: number
  prompt_tokens: number
  cached_tokens: number
  completion_tokens: number
  seconds: number
  cost: number
}

const widths = usageWidths.filter((width) => width !== 'all')
const pageMax = 1_000
/** Beyond it nobody reads a table, and a program asks the route itself. */
const rowsMax = 100_000

/** Prints what was used. */
export async function showUsage(options: UsageOptions): Promise<number> {
  const server = findServer(options.url, process.env)
  const query = makeQuery(options, systemClock.wallMs())
  const rows: ShownUsage[] = []
  for await (const { data } of readPages<ShownUsage>(server, '/v1/usage', { query, pageMax })) {
    rows.push(...data)
    if (rows.length > rowsMax) throw new SetupError(`there are more than ${rowsMax} sums; ask for less with --since, --until or --by`)
  }
  const shown = { by: readGroups(options), per: options.per ?? null }
  process.stdout.write(`${options.json ? JSON.stringify({ usage: rows }, null, 2) : formatUsage(rows, shown)}\n`)
  // An administrator's key has a tenant too, which has often used nothing.
  if (rows.length === 0 && options.tenant === undefined && !options.allTenants) {
    process.stderr.write('This is about the tenant of the key alone; --tenant NAME and --all-tenants show others.\n')
  }
  return 0
} // prettier-ignore

/** The query of the route; what is left out there has its defaults. */
export function makeQuery(options: UsageOptions, nowMs: number): Record<string, string> {
  const { since, until, per, tenant, allTenants, key, model } = options
  if (per !== undefined && !(widths as readonly string[]).includes(per)) {
    throw new SetupError(`--per ${per} is not allowed; one of ${widths.join(', ')}`)
  }
  if (tenant !== undefined && allTenants) {
    throw new SetupError("--tenant and --all-tenants can't be used together")
  }
  const by = readGroups(options)
  return {
    width: per ?? 'all',
    ...(by.length === 0 ? {} : { group_by: by.join(',') }),
    ...(since === undefined ? {} : { start: readPast('--since', since, nowMs) }),
    ...(until === undefined ? {} : { end: readPast('--until', until, nowMs) }),
    ...(allTenants ? { tenant: '*' } : tenant === undefined ? {} : { tenant }),
    ...(key === undefined ? {} : { key }),
    ...(model === undefined ? {} : { model }),
  }
}

function readGroups({ by }: UsageOptions): UsageGroup[] {
  if (by === undefined) return ['model']
  const names = by.flatMap((text) => text.split(',')).map((name) => name.trim())
  const stranger = names.find((name) => !(usageGroups as readonly string[]).includes(name))
  if (stranger !== undefined) {
    throw new SetupError(`--by ${stranger} is not allowed; one or more of ${usageGroups.join(', ')}`)
  }
  return usageGroups.filter((group) => names.includes(group))
}

/** Unix seconds for a span back from now, a day as its beginning in UTC, any other time as it is. */
function readPast(flag: string, text: string, nowMs: number): string {
  const spanMs = readSpanMs(text)
  if (spanMs !== null) return String(Math.max(0, Math.floor((nowMs - spanMs) / 1_000)))
  if (/^\d{4}-\d\d-\d\d$/.test(text)) return `${text}T00:00:00Z`
  if (/^\d+(\.\d+)?$/.test(text) || /^\d{4}-\d\d-\d\dT/.test(text)) return text
  throw new SetupError(`${flag} ${text} is not allowed; a time such as 2026-01-31, 2026-01-31T18:00:00Z, or 7d, 12h ago`)
} // prettier-ignore

const formatStart = {
  hour: (text: string) => `${text.slice(0, 16)}Z`,
  day: (text: string) => text.slice(0, 10),
  month: (text: string) => text.slice(0, 7),
}

/** A table, with a line for the sum of all at its end. */
export function formatUsage(
  rows: readonly ShownUsage[],
  { by, per }: { by: readonly UsageGroup[]; per: string | null },
): string {
  if (rows.length === 0) return 'nothing was used'
  const format = per === null ? null : formatStart[per as keyof typeof formatStart]
  const name = (row: ShownUsage) => [
    ...(format === null ? [] : [format(new Date(row.start * 1_000).toISOString())]),
    ...by.map((group) => keepLine(row[group] ?? '-')),
  ]
  const head = [...(per === null ? [] : [per.toUpperCase()]), ...by.map((group) => group.toUpperCase())]
  const counts = ['REQUESTS', 'FAILED', 'PROMPT', 'CACHED', 'COMPLETION', 'SECONDS', 'COST']
  const lines = rows.map((row) => [...name(row), ...formatCounts(row)])
  const total = head.map((_, column) => (column === 0 ? 'all' : ''))
  const sums = rows.length > 1 && head.length > 0 ? [[...total, ...formatCounts(addUp(rows))]] : []
  return formatTable([[...head, ...counts], ...lines, ...sums])
}

type Counts = Omit<ShownUsage, 'id' | 'start' | 'end' | 'tenant' | 'key' | 'model'>

const formatCounts = (row: Counts): string[] => [
  String(row.requests),
  String(row.failed_requests),
  String(row.prompt_tokens),
  String(row.cached_tokens),
  String(row.completion_tokens),
  row.seconds.toFixed(1),
  String(Number(row.cost.toPrecision(6))),
]

function addUp(rows: readonly ShownUsage[]): Counts {
  const sum = (read: (row: ShownUsage) => number) => rows.reduce((total, row) => total + read(row), 0)
  return {
    requests: sum((row) => row.requests),
    failed_requests: sum((row) => row.failed_requests),
    prompt_tokens: sum((row) => row.prompt_tokens),
    cached_tokens: sum((row) => row.cached_tokens),
    completion_tokens: sum((row) => row.completion_tokens),
    seconds: sum((row) => row.seconds),
    cost: sum((row) => row.cost),
  }
}
