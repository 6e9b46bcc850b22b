import { ApiError, fail } from '../../core/errors.ts'
import { identifyItems, type ResponseObject } from '../../router/responses/response.ts'
import type { Item } from '../../router/responses/items.ts'
import type { ResponsesRequest } from '../../router/responses/request.ts'
import type { TaskDetail } from '../../storage/task-store.ts'
import type { Queue } from '../queue.ts'
import type { StoredResponse, StoredResponses } from './stored-responses.ts'
import { describeTaskResponse, readTaskRequest, toTaskId } from './task-response.ts'

type FindParts = { queue: Pick<Queue, 'get'>; responses: StoredResponses }

type FoundResponse = {
  response: ResponseObject
  stored: StoredResponse | null
  /** The task that makes it, or has made it, and is still known. */
  task: { detail: TaskDetail; request: ResponsesRequest } | null
}

/** A response of a tenant, finished or not. Throws response_not_found. */
export async function findResponse(parts: FindParts, tenant: string, id: string): Promise<FoundResponse> {
  const stored = await parts.responses.find(tenant, id)
  // One that was made while its client waited belongs to no task.
  if (stored && !stored.response.background) return { response: stored.response, stored, task: null }
  const task = await findTask(parts.queue, tenant, id)
  if (!task) {
    if (stored) return { response: stored.response, stored, task }
    throw fail('response_not_found', {
      message: `There is no response \`${id.slice(0, 100)}\`.`,
      param: 'id',
    })
  }
  const { detail, request } = task
  // Kept just before the task is settled; where that came to nothing, the task's own state says so.
  const isKept = stored !== null && (detail.task.status === 'running' || detail.task.status === 'succeeded')
  const response = isKept ? stored.response : describeTaskResponse(detail.task, request, detail.result)
  return { response, stored, task }
}

async function findTask(
  queue: Pick<Queue, 'get'>,
  tenant: string,
  id: string,
): Promise<FoundResponse['task']> {
  const taskId = toTaskId(id)
  if (taskId === null) return null
  const detail = await queue.get(tenant, taskId).catch((thrown: unknown) => {
    if (thrown instanceof ApiError && thrown.code === 'task_not_found') return null
    throw thrown
  })
  const request = detail ? readTaskRequest(detail.payload) : null
  return detail && request ? { detail, request } : null
}

/** All that the model was given, oldest first. */
export async function listInputItems(
  parts: FindParts,
  tenant: string,
  { response, stored, task }: FoundResponse,
): Promise<Item[]> {
  if (stored) return [...stored.context, ...stored.input]
  if (!task) return []
  const context = await parts.responses.conversation(tenant, task.request.previousResponseId)
  return [...context, ...identifyItems(response.id, task.request.input, context)]
}
