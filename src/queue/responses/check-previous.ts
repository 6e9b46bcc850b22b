import { ApiError } from '../../core/errors.ts'
import { prefixParam } from '../check-work.ts'
import { hasReference } from '../references.ts'
import type { CallWork, Work } from '../task.ts'
import type { StoredResponses } from './stored-responses.ts'

/**
 * Looks for the responses that a task goes on from when it is submitted, as the live route does: when its turn has
 * come, nobody waits for the answer. What an earlier step will make can't be looked for. Throws response_not_found,
 * invalid_request and context_length_exceeded, with the field from the task's own point of view.
 */
export async function checkPrevious(
  responses: Pick<StoredResponses, 'conversation'>,
  tenant: string,
  work: Work,
): Promise<void> {
  if (work.endpoint !== 'sequence') return checkCall(responses, tenant, { call: work, prefix: 'body' })
  for (const [index, step] of work.steps.entries()) {
    if (hasReference(step.body['previous_response_id'])) continue
    await checkCall(responses, tenant, { call: step, prefix: `steps[${index}].body` })
  }
}

async function checkCall(
  responses: Pick<StoredResponses, 'conversation'>,
  tenant: string,
  { call, prefix }: { call: CallWork; prefix: string },
): Promise<void> {
  const id = call.body['previous_response_id']
  // Another type is refused where the rest of the body is checked.
  if (call.endpoint !== '/v1/responses' || typeof id !== 'string') return
  try {
    await responses.conversation(tenant, id)
  } catch (thrown) {
    throw thrown instanceof ApiError ? prefixParam(thrown, prefix) : thrown
  }
}
