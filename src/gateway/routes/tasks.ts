import type { FastifyInstance, FastifyRequest } from 'fastify'
import { checkPrevious } from '../../queue/responses/check-previous.ts'
import { parseTaskRequest } from '../../queue/task-request.ts'
import type { TaskSpec } from '../../queue/task.ts'
import type { TaskFilter } from '../../storage/task-store.ts'
import { parseBody } from '../../router/calls/body.ts'
import { checkWebhookUrl } from '../../queue/webhooks/target.ts'
import { readIdempotencyKey } from '../idempotency-key.ts'
import { ignoreBodies } from '../ignore-bodies.ts'
import { describeDetail, describeTask } from '../task-object.ts'
import { readTaskId, type OneTask, type TaskParts } from '../task-parts.ts'
import { parseInclude, parseTaskList, refuseOthers, type Query } from '../task-query.ts'
import {
  cancelSchema,
  listSchema,
  removeSchema,
  requeueSchema,
  showSchema,
  submitSchema,
} from '../task-schemas.ts'
import { addTaskEventRoutes } from './task-events.ts'

/** The tasks of a tenant: submit, list, show, follow, cancel, requeue, remove. */
export function addTaskRoutes(app: FastifyInstance, parts: TaskParts): void {
  const { queue, responses } = parts

  app.post('/v1/tasks', { schema: submitSchema }, async (request, reply) => {
    const spec = readSpec(request, parts)
    await checkPrevious(responses, spec.tenant, spec.work)
    const { task, created } = await queue.submit(spec)
    return reply
      .code(created ? 202 : 200)
      .header('location', `/v1/tasks/${task.id}`)
      .send(describeTask(task))
  })

  const list = async (filter: TaskFilter) => {
    const [rows, counts] = await Promise.all([
      queue.list({ ...filter, limit: filter.limit + 1 }),
      queue.count(filter.tenant, filter.parent),
    ])
    const data = rows.slice(0, filter.limit).map(describeTask)
    return {
      object: 'list',
      data,
      first_id: data[0]?.id ?? null,
      last_id: data.at(-1)?.id ?? null,
      has_more: rows.length > filter.limit,
      counts,
    }
  }
  app.get('/v1/tasks', { schema: listSchema }, (request) =>
    list(parseTaskList(request.query as Query, request.record.caller.tenant)),
  )

  app.get<OneTask>('/v1/tasks/:id', { schema: showSchema }, (request) => {
    const include = parseInclude(request.query as Query)
    return queue
      .get(request.record.caller.tenant, readTaskId(request))
      .then((detail) => describeDetail(detail, include))
  })

  addTaskEventRoutes(app, parts)
  addTaskActions(app, parts)
}

function addTaskActions(app: FastifyInstance, { queue }: TaskParts): void {
  app.register((scope, _options, done) => {
    ignoreBodies(scope)

    scope.post<OneTask>('/v1/tasks/:id/cancel', { schema: cancelSchema }, (request) => {
      refuseOthers(request.query as Query, [])
      return queue.cancel(request.record.caller.tenant, readTaskId(request)).then(describeTask)
    })

    scope.post<OneTask>('/v1/tasks/:id/requeue', { schema: requeueSchema }, (request) => {
      refuseOthers(request.query as Query, [])
      return queue.requeue(request.record.caller.tenant, readTaskId(request)).then(describeTask)
    })

    scope.delete<OneTask>('/v1/tasks/:id', { schema: removeSchema }, async (request, reply) => {
      refuseOthers(request.query as Query, [])
      await queue.remove(request.record.caller.tenant, readTaskId(request))
      return reply.code(204).send()
    })
    done()
  })
}

function readSpec(request: FastifyRequest, { clock, settings, webhooks }: TaskParts): TaskSpec {
  refuseOthers(request.query as Query, [])
  const { tenant, keyId } = request.record.caller
  const idempotencyKey = readIdempotencyKey(request.headers)
  const body = (request.body as Buffer | undefined) ?? Buffer.alloc(0)
  const fields = parseBody(body, settings().jsonDepthMax)
  const spec = parseTaskRequest(fields, { tenant, idempotencyKey, nowMs: clock.wallMs() })
  if (spec.webhook) checkWebhookUrl(spec.webhook.url, webhooks())
  return keyId === null ? spec : { ...spec, keyId }
}
