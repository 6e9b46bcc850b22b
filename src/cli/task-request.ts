import { SetupError } from '../core/errors.ts'
import { readPairs, readTime, readWhole } from './flag-values.ts'

export type SubmitOptions = {
  url?: string
  endpoint?: string
  model?: string
  prompt?: string
  priority?: string
  runAt?: string
  deadline?: string
  maxAttempts?: string
  metadata?: string[]
  webhook?: string
  idempotencyKey?: string
  wait?: boolean
  json?: boolean
}

type Fields = Record<string, unknown>

/** The field by which one tells what a body is for. */
const endpointByField = {
  messages: '/v1/chat/completions',
  prompt: '/v1/completions',
} as const

/**
 * The body of `POST /v1/tasks`. `text` is either such a body itself (it has `endpoint` and `body`, or `steps`), or the
 * body of a call; flags are stronger than what it says. Throws a SetupError.
 */
export function makeSubmission(
  text: string | null,
  from: { options: SubmitOptions; source: string; nowMs: number },
): Fields {
  const { options, nowMs } = from
  const given =
    text === null ? makeQuickTask(options) : readTask(parse(text, from.source), options, from.source)
  const { priority, runAt, deadline, maxAttempts, metadata, webhook } = options
  return {
    ...given,
    ...(priority === undefined ? {} : { priority: /^\d+$/.test(priority) ? Number(priority) : priority }),
    ...(runAt === undefined ? {} : { run_at: readTime('--run-at', runAt, nowMs) }),
    ...(deadline === undefined ? {} : { deadline: readTime('--deadline', deadline, nowMs) }),
    ...(maxAttempts === undefined ? {} : { max_attempts: readWhole('--max-attempts', maxAttempts) }),
    ...(metadata === undefined
      ? {}
      : { metadata: { ...(given['metadata'] as Fields), ...readPairs(metadata) } }),
    ...(webhook === undefined ? {} : { webhook: { url: webhook } }),
  }
}

function makeQuickTask({ model, prompt, endpoint }: SubmitOptions): Fields {
  if (prompt === undefined || model === undefined) {
    throw new SetupError(
      'there is nothing to submit: name a file (or - for standard input), or use --model NAME --prompt TEXT',
    )
  }
  if (endpoint === '/v1/completions') return { endpoint, body: { model, prompt } }
  const chat = '/v1/chat/completions'
  if (endpoint === undefined || endpoint === chat) {
    return { endpoint: chat, body: { model, messages: [{ role: 'user', content: prompt }] } }
  }
  return { endpoint, body: { model, input: prompt } }
}

function readTask(fields: Fields, options: SubmitOptions, source: string): Fields {
  if (options.prompt !== undefined) throw new SetupError(`--prompt and ${source} can't be used together`)
  const isWhole = 'steps' in fields || ('endpoint' in fields && 'body' in fields)
  if (isWhole) {
    for (const [flag, value] of [['--endpoint', options.endpoint], ['--model', options.model]]) {
      if (value !== undefined) throw new SetupError(`${flag} can't be used here: ${source} holds a whole task`)
    }
    return fields
  } // prettier-ignore
  const guess = Object.entries(endpointByField).find(([field]) => field in fields)?.[1]
  const endpoint = options.endpoint ?? guess
  if (endpoint === undefined) {
    throw new SetupError(
      `what ${source} is meant for can't be told; name it with --endpoint, such as /v1/embeddings`,
    )
  }
  return { endpoint, body: options.model === undefined ? fields : { ...fields, model: options.model } }
}

function parse(text: string, source: string): Fields {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new SetupError(`${source} is not JSON: ${(error as Error).message}`)
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields
  throw new SetupError(`${source} must hold a JSON object`)
}
