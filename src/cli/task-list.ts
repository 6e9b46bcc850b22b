import { SetupError } from '../core/errors.ts'
import { askForJson, findServer, type Server } from './api-client.ts'
import { readPairs, readWhole } from './task-request.ts'
import { formatCounts, formatTask, formatTasks, type ShownTask } from './task-text.ts'

export type ListOptions = {
  url?: string
  status?: string[]
  priority?: string
  model?: string
  createdAfter?: string
  createdBefore?: string
  metadata?: string[]
  batch?: string
  limit?: string
  oldestFirst?: boolean
  json?: boolean
}

type Page = { data: ShownTask[]; has_more: boolean; last_id: string | null; counts?: Record<string, number> }

const pageMax = 100

/** Lists tasks, as many pages as `--limit` asks for. */
export async function listTasks(options: ListOptions): Promise<number> {
  const server = findServer(options.url, process.env)
  const limit = readWhole('--limit', options.limit ?? '20')
  if (limit < 1) throw new SetupError('--limit 0 is not allowed; a whole number from 1')
  const tasks: ShownTask[] = []
  let page: Page | null = null
  while (page === null || (page.has_more && tasks.length < limit)) {
    page = await readPage(
      server,
      makeQuery(options, Math.min(pageMax, limit - tasks.length), page?.last_id ?? null),
    )
    tasks.push(...page.data)
  }
  const { counts } = page
  if (options.json) process.stdout.write(`${JSON.stringify({ tasks, counts }, null, 2)}\n`)
  else {
    const rest = page.has_more ? '; there are more: raise --limit' : ''
    const summary = `${counts ? formatCounts(counts) : `${tasks.length} tasks`}${rest}`
    process.stdout.write(
      tasks.length === 0 ? `${summary}; none to show\n` : `${formatTasks(tasks)}\n\n${summary}\n`,
    )
  }
  return 0
}

function makeQuery(options: ListOptions, limit: number, after: string | null): URLSearchParams {
  const query = new URLSearchParams({ limit: String(limit) })
  const given: [string, string | undefined | null][] = [
    ['status', options.status?.join(',')],
    ['priority', options.priority],
    ['model', options.model],
    ['created_after', options.createdAfter],
    ['created_before', options.createdBefore],
    ['batch', options.batch],
    ['order', options.oldestFirst ? 'asc' : null],
    ['after', after],
  ]
  for (const [name, value] of given) if (value !== undefined && value !== null) query.set(name, value)
  for (const [key, value] of Object.entries(readPairs(options.metadata ?? [])))
    query.set(`metadata[${key}]`, value)
  return query
}

async function readPage(server: Server, query: URLSearchParams): Promise<Page> {
  const page = (await askForJson(server, `/v1/tasks?${query.toString()}`)) as Partial<Page>
  if (!Array.isArray(page.data)) throw new SetupError(`${server.url}/v1/tasks did not answer a list of tasks`)
  return { has_more: false, last_id: null, ...page } as Page
}

/** Shows everything that is known of one task. */
export async function showTask(
  id: string,
  options: { url?: string; json?: boolean; body?: boolean },
): Promise<number> {
  const server = findServer(options.url, process.env)
  const query = options.body ? '?include=body' : ''
  const task = (await askForJson(server, `/v1/tasks/${encodeURIComponent(id)}${query}`)) as ShownTask
  process.stdout.write(`${options.json ? JSON.stringify(task, null, 2) : formatTask(task)}\n`)
  return 0
}
