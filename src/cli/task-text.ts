import { keepLine, keepText } from './plain-text.ts'
import { formatTable } from './models.ts'

/** A task as `GET /v1/tasks` shows it; what only one of them has is optional. */
export type ShownTask = {
  id: string
  status: string
  endpoint: string
  model: string
  priority: string | number
  attempts: number
  max_attempts: number
  created_at: number
  run_at: number | null
  deadline: number | null
  started_at: number | null
  finished_at: number | null
  cancel_requested: boolean
  batch: string | null
  metadata: Record<string, string>
  error: { code: string; message: string } | null
  usage: { prompt_tokens: number; completion_tokens: number } | null
  result?: unknown
  steps?: { name: string; endpoint: string; attempt: number | null; result: unknown }[]
  history?: ShownEvent[]
  body?: unknown
}

export type ShownEvent = {
  seq: number
  at: number
  status: string
  attempt: number
  error: { code: string; message: string } | null
  instance: string | null
}

/** `2026-01-31 18:00:00`, in the time of this machine. */
function formatTime(seconds: number | null): string {
  if (seconds === null) return '-'
  const date = new Date(seconds * 1000)
  if (Number.isNaN(date.getTime())) return '-'
  const two = (part: number) => String(part).padStart(2, '0')
  const day = [date.getFullYear(), two(date.getMonth() + 1), two(date.getDate())].join('-')
  return `${day} ${[date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(':')}`
}

/** `running`, and `stopping` for one that runs though somebody cancelled it. */
export const nameStatus = (task: Pick<ShownTask, 'status' | 'cancel_requested'>): string =>
  task.cancel_requested ? 'stopping' : keepLine(task.status)

export function formatTasks(tasks: readonly ShownTask[]): string {
  const rows = tasks.map((task) => [
    keepLine(task.id),
    nameStatus(task),
    String(task.priority),
    keepLine(task.model),
    `${task.attempts} of ${task.max_attempts}`,
    formatTime(task.created_at),
    keepLine(task.endpoint),
  ])
  return formatTable([['ID', 'STATUS', 'PRIORITY', 'MODEL', 'ATTEMPTS', 'CREATED', 'ENDPOINT'], ...rows])
}

/** `3 queued, 1 running`; statuses without a task are left out. */
export function formatCounts(counts: Record<string, number>): string {
  const parts = Object.entries(counts).filter(([, count]) => count > 0)
  return parts.length === 0
    ? 'no tasks'
    : parts.map(([status, count]) => `${count} ${keepLine(status)}`).join(', ')
}

/** `18:00:01 running, attempt 2 on m-0`, with the failure that led there. */
export function formatEvent(event: ShownEvent): string {
  const attempt = event.attempt > 0 ? `, attempt ${event.attempt}` : ''
  const instance = event.instance === null ? '' : ` on ${keepLine(event.instance)}`
  const failure =
    event.error === null ? '' : `: ${keepLine(event.error.message)} (${keepLine(event.error.code)})`
  return `${formatTime(event.at)} ${keepLine(event.status)}${attempt}${instance}${failure}`
}

/** Everything that is known of a task, for a person. */
export function formatTask(task: ShownTask): string {
  const line = (name: string, value: string) => `${`${name}:`.padEnd(12)}${value}`
  const optional = (name: string, value: string | null) => (value === null ? [] : [line(name, value)])
  const pairs = Object.entries(task.metadata).map(([key, value]) => `${keepLine(key)}=${keepLine(value)}`)
  const { usage, error } = task
  const lines = [
    line('id', keepLine(task.id)),
    line('status', nameStatus(task)),
    line('endpoint', keepLine(task.endpoint)),
    line('model', keepLine(task.model)),
    line('priority', String(task.priority)),
    line('attempts', `${task.attempts} of ${task.max_attempts}`),
    line('created', formatTime(task.created_at)),
    ...optional('run at', task.run_at === null ? null : formatTime(task.run_at)),
    ...optional('deadline', task.deadline === null ? null : formatTime(task.deadline)),
    ...optional('finished', task.finished_at === null ? null : formatTime(task.finished_at)),
    ...optional('batch', task.batch === null ? null : keepLine(task.batch)),
    ...optional('metadata', pairs.length === 0 ? null : pairs.join(' ')),
    ...optional(
      'tokens',
      usage === null ? null : `${usage.prompt_tokens} in, ${usage.completion_tokens} out`,
    ),
    ...optional('error', error === null ? null : `${keepLine(error.message)} (${keepLine(error.code)})`),
  ]
  const history = (task.history ?? []).map((event) => `  ${formatEvent(event)}`)
  if (history.length > 0) lines.push('history:', ...history)
  for (const step of task.steps ?? []) {
    lines.push(
      `step ${keepLine(step.name)}:`,
      step.result === null ? '  (not yet)' : indent(readText(step.result)),
    )
  }
  if (task.body !== undefined) lines.push('body:', indent(JSON.stringify(task.body, null, 2)))
  // The steps above are the result of a sequence.
  if ((task.result ?? null) !== null && !isSequence(task.result))
    lines.push('result:', indent(readText(task.result)))
  return keepText(lines.join('\n'))
}

const indent = (text: string) => text.replaceAll(/^/gm, '  ')

type Answer = {
  choices?: { text?: unknown; message?: { content?: unknown } }[]
  output?: { content?: { text?: unknown }[] }[]
  steps?: { result?: unknown }[]
}

const isSequence = (result: unknown): boolean =>
  typeof result === 'object' && result !== null && (result as { object?: unknown }).object === 'sequence'

/** The text of an answer where it has one, of several steps that of the last; else the answer as JSON. */
export function readText(result: unknown): string {
  const { choices, output, steps } = (typeof result === 'object' && result !== null ? result : {}) as Answer
  if (isSequence(result) && Array.isArray(steps) && steps.length > 0) return readText(steps.at(-1)?.result)
  const first = Array.isArray(choices) ? choices[0] : undefined
  const text = first?.message?.content ?? first?.text
  if (typeof text === 'string') return text
  const pieces = Array.isArray(output)
    ? output.flatMap(({ content }) => (Array.isArray(content) ? content.map((part) => part.text) : []))
    : []
  const texts = pieces.filter((piece) => typeof piece === 'string')
  return texts.length > 0 ? texts.join('') : (JSON.stringify(result, null, 2) ?? '')
}
