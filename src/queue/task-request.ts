import { fail, type ApiError } from '../core/errors.ts'
import { readTimeMs } from './request-time.ts'
import { taskEndpoints, toBand, type StepWork, type TaskEndpoint, type TaskSpec, type Work } from './task.ts'

type Fields = Record<string, unknown>

/** What a request doesn't say itself: whose it is, by which key it is known, and when it came. */
type RequestOrigin = { tenant: string; idempotencyKey: string | null; nowMs: number }

export const taskRequestLimits = {
  stepsMax: 64,
  attemptsMax: 100,
  metadataPairsMax: 16,
  metadataKeyCharsMax: 64,
  metadataValueCharsMax: 512,
  urlCharsMax: 2048,
  idempotencyKeyCharsMax: 255,
} as const

const taskFields = [
  'endpoint',
  'body',
  'steps',
  'priority',
  'run_at',
  'deadline',
  'max_attempts',
  'metadata',
  'webhook',
] as const

const callFields = ['endpoint', 'body'] as const
const stepFields = ['name', ...callFields] as const

/**
 * Reads the JSON of `POST /v1/tasks` and of a broker's message, which are the same. A field that is null is as good
 * as left out; one that is not known is refused, for a misspelt `deadline` must not be a task without one. The bodies
 * of the calls are checked by the queue, and `webhook.url` by `checkWebhookUrl`. Throws invalid_request.
 */
export function parseTaskRequest(body: Fields, from: RequestOrigin): TaskSpec {
  refuseUnknown(body, taskFields, '')
  const work = readWork(body)
  const band = toBand(body['priority'] ?? 'normal')
  const runAtMs = readTimeMs(body['run_at'], 'run_at')
  const deadlineMs = readTimeMs(body['deadline'], 'deadline')
  if (deadlineMs !== null && deadlineMs <= from.nowMs) throw invalid('deadline', 'must lie in the future')
  if (deadlineMs !== null && runAtMs !== null && deadlineMs <= runAtMs) {
    throw invalid('deadline', 'must lie after `run_at`')
  }
  return {
    tenant: from.tenant,
    work,
    band,
    runAtMs,
    deadlineMs,
    attemptsMax: readAttempts(body['max_attempts']),
    metadata: readMetadata(body['metadata']),
    webhook: readWebhook(body['webhook']),
    idempotencyKey: checkIdempotencyKey(from.idempotencyKey),
    parent: null,
    position: null,
  }
}

function readWork(body: Fields): Work {
  const steps = body['steps'] ?? null
  if (steps === null) return readCall(body, '')
  for (const field of callFields) {
    if ((body[field] ?? null) !== null) throw invalid(field, 'must be left out where `steps` is given')
  }
  if (!Array.isArray(steps)) throw invalid('steps', `must be an array; it is ${nameKind(steps)}`)
  const { stepsMax } = taskRequestLimits
  if (steps.length < 1 || steps.length > stepsMax) {
    throw invalid('steps', `must hold 1 to ${stepsMax} steps; it holds ${steps.length}`)
  }
  const names = new Set<string>()
  const read = (steps as unknown[]).map((step, index) => readStep(step, `steps[${index}]`, names))
  return { endpoint: 'sequence', steps: read }
}

/** `names` holds those of the steps before, and gets this one's: `{{steps.NAME…}}` must mean one step. */
function readStep(value: unknown, param: string, names: Set<string>): StepWork {
  if (!isObject(value)) throw invalid(param, `must be an object; it is ${nameKind(value)}`)
  refuseUnknown(value, stepFields, `${param}.`)
  const name = value['name'] ?? null
  if (name === null) throw missing(`${param}.name`)
  if (typeof name !== 'string' || !/^[A-Za-z_][\w-]{0,63}$/.test(name)) {
    throw invalid(
      `${param}.name`,
      'must be 1 to 64 letters, digits, `_` or `-`, of which the first is a letter or `_`',
    )
  }
  if (names.has(name)) throw invalid(`${param}.name`, `must be the name of one step only; ${name} is taken`)
  names.add(name)
  return { name, ...readCall(value, `${param}.`) }
}

function readCall(value: Fields, prefix: string): { endpoint: TaskEndpoint; body: Fields } {
  const endpoint = value['endpoint'] ?? null
  if (endpoint === null) throw missing(`${prefix}endpoint`)
  if (!(taskEndpoints as readonly unknown[]).includes(endpoint)) {
    throw invalid(`${prefix}endpoint`, `must be one of ${taskEndpoints.join(', ')}; it is ${quote(endpoint)}`)
  }
  const body = value['body'] ?? null
  if (body === null) throw missing(`${prefix}body`)
  if (!isObject(body)) throw invalid(`${prefix}body`, `must be an object; it is ${nameKind(body)}`)
  return { endpoint: endpoint as TaskEndpoint, body }
}

function readAttempts(value: unknown): number | null {
  if (value === undefined || value === null) return null
  const { attemptsMax } = taskRequestLimits
  if (Number.isInteger(value) && (value as number) >= 1 && (value as number) <= attemptsMax) {
    return value as number
  }
  throw invalid('max_attempts', `must be a whole number from 1 to ${attemptsMax}; it is ${quote(value)}`)
}

/** OpenAI's own limits: 16 pairs, keys of 64 and values of 512 characters. */
function readMetadata(value: unknown): Readonly<Record<string, string>> {
  if (value === undefined || value === null) return {}
  if (!isObject(value)) throw invalid('metadata', `must be an object; it is ${nameKind(value)}`)
  const pairs = Object.entries(value)
  const limits = taskRequestLimits
  if (pairs.length > limits.metadataPairsMax) {
    throw invalid('metadata', `must hold at most ${limits.metadataPairsMax} pairs; it holds ${pairs.length}`)
  }
  for (const [key, text] of pairs) {
    if (key.length < 1 || key.length > limits.metadataKeyCharsMax) {
      throw invalid('metadata', `must have keys of 1 to ${limits.metadataKeyCharsMax} characters`)
    }
    const param = `metadata.${key}`
    if (typeof text !== 'string') throw invalid(param, `must be a string; it is ${nameKind(text)}`)
    if (text.length > limits.metadataValueCharsMax) {
      throw invalid(
        param,
        `must have at most ${limits.metadataValueCharsMax} characters; it has ${text.length}`,
      )
    }
  }
  return value as Record<string, string>
}

function readWebhook(value: unknown): { url: string } | null {
  if (value === undefined || value === null) return null
  if (!isObject(value)) throw invalid('webhook', `must be an object with \`url\`; it is ${nameKind(value)}`)
  refuseUnknown(value, ['url'], 'webhook.')
  const url = value['url'] ?? null
  if (url === null) throw missing('webhook.url')
  if (typeof url !== 'string') throw invalid('webhook.url', `must be a string; it is ${nameKind(url)}`)
  const { urlCharsMax } = taskRequestLimits
  if (url.length > urlCharsMax) throw invalid('webhook.url', `must have at most ${urlCharsMax} characters`)
  return { url }
}

function checkIdempotencyKey(key: string | null): string | null {
  if (key === null) return null
  const { idempotencyKeyCharsMax } = taskRequestLimits
  if (key.length >= 1 && key.length <= idempotencyKeyCharsMax) return key
  throw fail('invalid_request', {
    message: `The idempotency key must have 1 to ${idempotencyKeyCharsMax} characters; it has ${key.length}.`,
    param: 'idempotency_key',
  })
}

function refuseUnknown(value: Fields, known: readonly string[], prefix: string): void {
  const stranger = Object.keys(value).find((key) => !known.includes(key))
  if (stranger === undefined) return
  const param = `${prefix}${stranger.slice(0, 100)}`
  throw fail('invalid_request', {
    message: `\`${param}\` is not a field here; known are ${known.join(', ')}.`,
    param,
  })
}

const isObject = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const quote = (value: unknown): string => (JSON.stringify(value) ?? 'nothing').slice(0, 100)

function nameKind(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'an array'
  if (typeof value === 'object') return 'an object'
  return `a ${typeof value}`
}

const invalid = (param: string, what: string): ApiError =>
  fail('invalid_request', { message: `\`${param}\` ${what}.`, param })

const missing = (param: string): ApiError => invalid(param, 'is missing')
