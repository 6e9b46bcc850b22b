import { createHmac } from 'node:crypto'
import type { TaskRow } from '../../storage/task-store.ts'
import { nameBand } from '../task.ts'

/**
 * The message about a task that has ended. It carries no texts of prompts or answers: the receiver fetches what it
 * needs from /v1/tasks/{id}, where it must say who it is.
 */
export function buildMessage(task: TaskRow, message: { id: string; createdAtMs: number }): Buffer {
  const { usage } = task
  const event = {
    id: message.id,
    object: 'event',
    type: `task.${task.status}`,
    created_at: toSeconds(message.createdAtMs),
    data: {
      id: task.id,
      object: 'task',
      status: task.status,
      endpoint: task.endpoint,
      model: task.model,
      priority: nameBand(task.band),
      attempts: task.attempt,
      created_at: toSeconds(task.createdAtMs),
      started_at: toSeconds(task.startedAtMs),
      finished_at: toSeconds(task.finishedAtMs),
      metadata: task.metadata,
      error: task.error,
      usage:
        usage === null
          ? null
          : {
              prompt_tokens: usage.promptTokens,
              completion_tokens: usage.completionTokens,
              total_tokens: usage.promptTokens + usage.completionTokens,
            },
    },
  }
  return Buffer.from(JSON.stringify(event))
}

function toSeconds(ms: number | null): number | null {
  return ms === null ? null : Math.floor(ms / 1000)
}

/**
 * The headers that prove where a message comes from and when it was sent.
 * Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 */
export function signMessage(
  message: { id: string; body: Buffer; wallMs: number },
  secrets: readonly Buffer[],
): Record<string, string> {
  const timestamp = String(Math.floor(message.wallMs / 1000))
  const signatures = secrets.map((secret) => {
    const hmac = createHmac('sha256', secret).update(`${message.id}.${timestamp}.`).update(message.body)
    return `v1,${hmac.digest('base64')}`
  })
  return {
    'webhook-id': message.id,
    'webhook-timestamp': timestamp,
    'webhook-signature': signatures.join(' '),
  }
}
