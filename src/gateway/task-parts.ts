import { fail } from '../core/errors.ts'
import type { Queue } from '../queue/queue.ts'
import type { StoredResponses } from '../queue/responses/stored-responses.ts'
import type { WebhookSettings } from '../queue/webhooks/settings.ts'
import type { ApiParts } from './parts.ts'
import { isId } from './task-query.ts'

/** What the routes of tasks are made of. */
export type TaskParts = Pick<ApiParts, 'clock' | 'log' | 'settings'> & {
  queue: Queue
  responses: Pick<StoredResponses, 'conversation'>
  webhooks: () => Pick<WebhookSettings, 'secrets' | 'allowPrivate'>
}

export type OneTask = { Params: { id: string } }

/** The id in the path. Throws task_not_found for what can be no task's id. */
export function readTaskId({ params }: { params: { id: string } }): string {
  if (isId(params.id)) return params.id
  const message = `There is no task ${JSON.stringify(params.id.slice(0, 100))}.`
  throw fail('task_not_found', { message, param: 'id' })
}
