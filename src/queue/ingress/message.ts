import { tenantPattern } from '../../core/ids.ts'
import { fail } from '../../core/errors.ts'
import { parseBody } from '../../router/calls/body.ts'
import { parseTaskRequest } from '../task-request.ts'
import type { TaskSpec } from '../task.ts'
import { checkWebhookUrl } from '../webhooks/target.ts'
import type { WebhookSettings } from '../webhooks/settings.ts'

/** What a broker's message says, whichever broker it is. */
export type Incoming = {
  body: Uint8Array
  /** The header `x-tenant`; undefined for none. */
  tenant: string | undefined
  /** The header `x-priority`, or the broker's own priority as a band; undefined for none. */
  priority: string | number | undefined
  /** The same for every delivery of one message; null where the broker has no such thing. */
  idempotencyKey: string | null
}

export type MessageRules = {
  bodyBytesMax: number
  jsonDepthMax: number
  webhooks: Pick<WebhookSettings, 'secrets' | 'allowPrivate'>
  nowMs: number
}

/** Reads a message as `POST /v1/tasks` reads its body. Throws an ApiError that names what is wrong. */
export function readMessage(message: Incoming, rules: MessageRules): TaskSpec {
  const { body, tenant = 'default', idempotencyKey } = message
  if (body.length > rules.bodyBytesMax) {
    throw fail('body_too_large', {
      message: `The message has ${body.length} bytes; ${rules.bodyBytesMax} are allowed.`,
    })
  }
  if (!tenantPattern.test(tenant)) {
    throw fail('invalid_request', {
      message: 'The header `x-tenant` must be 1 to 100 letters, digits, `_`, `.`, `:`, `@` or `-`.',
      param: 'x-tenant',
    })
  }
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength)
  const fields = parseBody(bytes, rules.jsonDepthMax)
  // What the message itself says goes before what stands on its envelope.
  const priority = fields['priority'] ?? readPriority(message.priority)
  const whole = priority === undefined ? fields : { ...fields, priority }
  const spec = parseTaskRequest(whole, { tenant, idempotencyKey, nowMs: rules.nowMs })
  if (spec.webhook) checkWebhookUrl(spec.webhook.url, rules.webhooks)
  return spec
}

/** Headers are text: `30` means the number. */
function readPriority(value: string | number | undefined): string | number | undefined {
  return typeof value === 'string' && /^\d{1,3}$/.test(value) ? Number(value) : value
}
