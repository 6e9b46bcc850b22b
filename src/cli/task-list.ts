import { SetupError } from '../core/errors.ts'
import { askForJson, findServer, readPages } from './api-client.ts'
import { readPairs, readWhole } from './flag-values.ts'
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

type Counts = Record<string, number>

const pageMax = 100

/** Lists tasks, as many pages as `--limit` asks for. */
export async function listTasks(options: ListOptions): Promise<number> {
  const server = findServer(options.url, process.env)
  const rowsMax = readWhole('--limit', options.limit ?? '20')
  if (rowsMax < 1) throw new SetupError('--limit 0 is not allowed; a whole number from 1')
  const tasks: ShownTask[] = []
  let counts: Counts | undefined
  let hasMore = false
  const query = makeQuery(options)
  for await (const page of readPages<ShownTask, { counts?: Counts }>(server, '/v1/tasks', {
    query,
    pageMax,
    rowsMax,
  })) {
    tasks.push(...page.data)
    counts = page.counts
    hasMore = page.has_more
  }
  if (options.json) process.stdout.write(`${JSON.stringify({ tasks, counts }, null, 2)}\n`)
  else {
    const rest = hasMore ? '; there are more: raise --limit' : ''
    const summary = `${counts ? formatCounts(counts) : `${tasks.length} tasks`}${rest}`
    process.stdout.write(
      tasks.length === 0 ? `${summary}; none to show\n` : `${formatTasks(tasks)}\n\n${summary}\n`,
    )
  }
  return 0
}

function makeQuery(options: ListOptions): Record<string, string> {
  const given = {
    status: options.status?.join(','),
    priority: options.priority,
    model: options.model,
    created_after: options.createdAfter,
    created_before: options.createdBefore,
    batch: options.batch,
    order: options.oldestFirst ? 'asc' : undefined,
  }
  const pairs = Object.entries(readPairs(options.metadata ?? []))
  return Object.fromEntries([
    ...Object.entries(given).filter((entry): entry is [string, string] => entry[1] !== undefined),
    ...pairs.map(([key, value]) => [`metadata[${key}]`, value]),
  ])
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
