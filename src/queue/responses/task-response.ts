import { errorTable } from '../../core/errors.ts'
import { parseResponsesBody, type ResponsesRequest } from '../../router/responses/request.ts'
import { describeResponse, toResponseError, type ResponseObject } from '../../router/responses/response.ts'
import { reasons } from '../../storage/reasons.ts'
import type { TaskError, TaskRow } from '../../storage/task-store.ts'
import { readPayload } from '../task.ts'

/** A task and its response have one name between them: `task_01k…` and `resp_01k…`. */
export const toResponseId = (taskId: string): string => taskId.replace(/^task_/, 'resp_')

/** The task that a response may belong to; null for what can't be an id of one. */
export const toTaskId = (responseId: string): string | null =>
  /^resp_[0-9a-z]{1,60}$/.test(responseId) ? responseId.replace(/^resp_/, 'task_') : null

/** What a task of `/v1/responses` asks for; null for any other task. */
export function readTaskRequest(payload: Uint8Array): ResponsesRequest | null {
  const { work } = readPayload(payload)
  return work.endpoint === '/v1/responses' ? parseResponsesBody(work.body) : null
}

/** The response of a task, as the task stands. */
export function describeTaskResponse(
  task: TaskRow,
  request: ResponsesRequest,
  result: Uint8Array | null,
): ResponseObject {
  if (task.status === 'succeeded' && result)
    return JSON.parse(Buffer.from(result).toString('utf8')) as ResponseObject
  const identity = { id: toResponseId(task.id), createdAtMs: task.createdAtMs }
  switch (task.status) {
    case 'queued':
    case 'delayed':
      return describeResponse(request, identity, { status: 'queued' })
    case 'cancelled':
      return describeResponse(request, identity, { status: 'cancelled' })
    case 'dead':
    case 'expired': {
      const error = task.error ?? reasons.expired
      return describeResponse(request, identity, { status: 'failed', error: explainError(error) })
    }
    case 'running':
    case 'succeeded':
      return describeResponse(request, identity, { status: 'in_progress' })
  }
}

const ownReasons: readonly string[] = Object.values(reasons).map(({ code }) => code)

/** A code that is none of ours is an instance's word about the request. */
function explainError(error: TaskError): { code: string; message: string } {
  if (Object.hasOwn(errorTable, error.code) || ownReasons.includes(error.code)) return toResponseError(error)
  // OpenAI names what may be wrong with an image one by one, and with all else in one word.
  return { code: /image/.test(error.code) ? error.code : 'invalid_prompt', message: error.message }
}
