import { fail, type ApiError } from '../../core/errors.ts'
import type { Fields } from '../../router/calls/body.ts'
import { taskEndpoints, toBand, type TaskEndpoint } from '../task.ts'

/** What `POST /v1/batches` asks for. */
export type BatchRequest = {
  inputFileId: string
  endpoint: TaskEndpoint
  /** As it was given, such as `24h`. */
  completionWindow: string
  windowMs: number
  band: number
  metadata: Readonly<Record<string, string>> | null
  outputKeepMs: number | null
}

const unitMs = { m: 60_000, h: 3_600_000, d: 86_400_000 } as const
const windowMsMax = 30 * unitMs.d
const metadataMax = { pairs: 16, keyChars: 64, valueChars: 512 }
/** OpenAI's bounds of `expires_after.seconds`. */
export const keepSeconds = { min: 3_600, max: 2_592_000 } as const

const fields = new Set([
  'input_file_id', 'endpoint', 'completion_window', 'metadata', 'output_expires_after', 'priority',
]) // prettier-ignore

/** Reads the body of `POST /v1/batches`. Throws invalid_request, naming the field at fault. */
export function parseBatchRequest(body: Fields): BatchRequest {
  const unknown = Object.keys(body).find((name) => !fields.has(name))
  if (unknown !== undefined) throw invalid(unknown, `is unknown; known here: ${[...fields].join(', ')}`)
  const inputFileId = body['input_file_id']
  if (typeof inputFileId !== 'string' || inputFileId === '') {
    throw invalid('input_file_id', 'must be the id of an uploaded file')
  }
  const endpoint = body['endpoint']
  if (!(taskEndpoints as readonly unknown[]).includes(endpoint)) {
    throw invalid('endpoint', `must be one of ${taskEndpoints.join(', ')}`)
  }
  const metadata = readMetadata(body['metadata'] ?? null)
  const completionWindow = body['completion_window']
  return {
    inputFileId,
    endpoint: endpoint as TaskEndpoint,
    completionWindow: completionWindow as string,
    windowMs: readWindowMs(completionWindow),
    band: readBand(body['priority'] ?? null, metadata),
    metadata,
    outputKeepMs: readKeepMs(body['output_expires_after'] ?? null),
  }
}

function readWindowMs(value: unknown): number {
  const found = typeof value === 'string' ? /^([1-9]\d{0,4})([mhd])$/.exec(value) : null
  const ms = found ? Number(found[1]) * unitMs[found[2] as keyof typeof unitMs] : 0
  if (ms > 0 && ms <= windowMsMax) return ms
  throw invalid('completion_window', 'must be a time from 1m to 30d, such as 24h, 30m or 7d')
}

/** `priority` is this server's own; clients that can't send it may say it in the metadata. */
function readBand(priority: unknown, metadata: BatchRequest['metadata']): number {
  if (priority !== null) return toBand(priority)
  const told = metadata?.['priority']
  if (told === undefined) return toBand('batch')
  return toBand(/^\d{1,3}$/.test(told) ? Number(told) : told, 'metadata.priority')
}

function readKeepMs(value: unknown): number | null {
  if (value === null) return null
  const { anchor, seconds } = (typeof value === 'object' ? value : {}) as Fields
  if (anchor !== 'created_at') throw invalid('output_expires_after.anchor', 'must be created_at')
  if (
    !Number.isInteger(seconds) ||
    (seconds as number) < keepSeconds.min ||
    (seconds as number) > keepSeconds.max
  ) {
    throw invalid(
      'output_expires_after.seconds',
      `must be a whole number from ${keepSeconds.min} to ${keepSeconds.max}`,
    )
  }
  return (seconds as number) * 1000
}

function readMetadata(value: unknown): BatchRequest['metadata'] {
  if (value === null) return null
  if (typeof value !== 'object' || Array.isArray(value))
    throw invalid('metadata', 'must be an object of texts')
  const pairs = Object.entries(value as Fields)
  if (pairs.length > metadataMax.pairs)
    throw invalid('metadata', `must hold at most ${metadataMax.pairs} pairs`)
  for (const [key, text] of pairs) {
    const fits = typeof text === 'string' && text.length <= metadataMax.valueChars
    if (fits && key.length <= metadataMax.keyChars) continue
    const param = `metadata.${key.slice(0, metadataMax.keyChars)}`
    throw invalid(
      param,
      `must be a text of at most ${metadataMax.valueChars} characters, with a name of at most ${metadataMax.keyChars}`,
    )
  }
  return value as Record<string, string>
}

const invalid = (param: string, rule: string): ApiError =>
  fail('invalid_request', { message: `\`${param}\` ${rule}.`, param })
