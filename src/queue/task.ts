import type { bandNames } from '../config/schema.ts'
import { fail } from '../core/errors.ts'

/** The bands that have a name; any whole number from 0 (first) to 100 (last) is one. */
export const bands = { urgent: 0, high: 25, normal: 50, low: 75, batch: 100 } as const satisfies Record<
  (typeof bandNames)[number],
  number
>

type BandName = keyof typeof bands

/** The routes that a task may ask. */
export const taskEndpoints = [
  '/v1/completions',
  '/v1/chat/completions',
  '/v1/embeddings',
  '/v1/responses',
] as const

export type TaskEndpoint = (typeof taskEndpoints)[number]

/** One call of a model, as the body of the route it is meant for. */
export type CallWork = { endpoint: TaskEndpoint; body: Readonly<Record<string, unknown>> }

/** A step of a sequence. Strings of its body may hold `{{steps.NAME.PATH}}`, which a later run replaces. */
export type StepWork = CallWork & { name: string }

export type Work = CallWork | { endpoint: 'sequence'; steps: readonly StepWork[] }

/** Where the end of a task is told. */
type WebhookTarget = { url: string }

/** What a task is to do, as whoever submits it says it. */
export type TaskSpec = {
  tenant: string
  /** The key that was shown, for the usage; left out where there was none. */
  keyId?: string
  work: Work
  band: number
  runAtMs: number | null
  deadlineMs: number | null
  /** Null takes the configured number. */
  attemptsMax: number | null
  metadata: Readonly<Record<string, string>>
  webhook: WebhookTarget | null
  idempotencyKey: string | null
  parent: string | null
  position: number | null
}

/** What the store keeps as a task's payload, as JSON. */
export type TaskPayload = { work: Work; webhook: WebhookTarget | null; keyId?: string }

export const readPayload = (bytes: Uint8Array): TaskPayload =>
  JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')) as TaskPayload

/** `high` -> 25, 30 -> 30. Throws invalid_request, naming `param`. */
export function toBand(priority: unknown, param = 'priority'): number {
  if (typeof priority === 'string' && Object.hasOwn(bands, priority)) return bands[priority as BandName]
  if (Number.isInteger(priority) && (priority as number) >= 0 && (priority as number) <= 100)
    return priority as number
  throw fail('invalid_request', {
    message: `\`${param}\` must be ${Object.keys(bands).join(', ')} or a whole number from 0 (first) to 100 (last); it is ${JSON.stringify(priority)?.slice(0, 100)}.`,
    param,
  })
}

/** 25 -> `high`, 30 -> 30. */
export function nameBand(band: number): BandName | number {
  return (Object.keys(bands) as BandName[]).find((name) => bands[name] === band) ?? band
}
