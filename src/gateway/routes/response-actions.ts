import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { fail } from '../../core/errors.ts'
import { findResponse, listInputItems } from '../../queue/responses/find-response.ts'
import { isFinal } from '../../storage/task-states.ts'
import { ignoreBodies } from '../ignore-bodies.ts'
import { pageItems, parseItemsQuery } from '../response-query.ts'
import { ErrorReply } from '../schemas.ts'
import { refuseOthers, type Query } from '../task-query.ts'
import type { OneResponse, ResponseParts } from './responses.ts'

/** A task that runs elsewhere ends within a second of its cancellation; then the answer says so. */
const cancelWaitMs = 3_000
const errors = { '4xx': ErrorReply, '5xx': ErrorReply }

/** Call off a response, delete it, list what went into it. */
export function addResponseActions(app: FastifyInstance, parts: ResponseParts): void {
  const { queue, responses, responseEvents } = parts

  const items = {
    tags: ['responses'],
    summary: 'What the model was given for a response',
    querystring: Type.Object({
      limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: 20 })),
      order: Type.Optional(Type.Enum(['asc', 'desc'], { default: 'desc' })),
      after: Type.Optional(Type.String({ description: 'The id of the last item of the page before.' })),
    }),
    response: {
      200: Type.Object({ object: Type.Literal('list') }, { additionalProperties: true }),
      ...errors,
    },
  }
  app.get<OneResponse>('/v1/responses/:id/input_items', { schema: items }, async (http) => {
    const tenant = http.record.caller.tenant
    const page = parseItemsQuery(http.query as Query)
    const found = await findResponse(parts, tenant, http.params.id)
    return pageItems(await listInputItems(parts, tenant, found), page)
  })

  app.register((scope, _options, done) => {
    ignoreBodies(scope)

    const cancel = {
      tags: ['responses'],
      summary: 'Call off a response that is made in the background',
      response: {
        200: Type.Object({ object: Type.Literal('response') }, { additionalProperties: true }),
        ...errors,
      },
    }
    scope.post<OneResponse>('/v1/responses/:id/cancel', { schema: cancel }, async (http) => {
      refuseOthers(http.query as Query, [])
      const tenant = http.record.caller.tenant
      const { id } = http.params
      const { task } = await findResponse(parts, tenant, id)
      if (!task?.request.background) {
        throw fail('invalid_request', {
          message: 'Only a response that is made in the background can be cancelled.',
          param: 'id',
        })
      }
      const row = await queue.cancel(tenant, task.detail.task.id)
      if (!isFinal(row.status))
        await waitForEnd(http, task.detail.task.id, task.detail.history.at(-1)?.seq ?? 0)
      return (await findResponse(parts, tenant, id)).response
    })

    const remove = {
      tags: ['responses'],
      summary: 'Delete a response and all that is kept of it',
      response: {
        200: Type.Object({
          id: Type.String(),
          object: Type.Literal('response'),
          deleted: Type.Literal(true),
        }),
        ...errors,
      },
    }
    scope.delete<OneResponse>('/v1/responses/:id', { schema: remove }, async (http) => {
      refuseOthers(http.query as Query, [])
      const tenant = http.record.caller.tenant
      const { id } = http.params
      const { response, task } = await findResponse(parts, tenant, id)
      // The task goes first: while it lives, nothing of it is taken away.
      if (task) await queue.remove(tenant, task.detail.task.id)
      if (response.background) await responseEvents.remove(tenant, id)
      await responses.remove(tenant, id)
      return { id, object: 'response', deleted: true }
    })
    done()
  })

  async function waitForEnd(http: FastifyRequest, taskId: string, afterSeq: number): Promise<void> {
    const stop = new AbortController()
    const cancelTimer = parts.clock.after(cancelWaitMs, () => stop.abort())
    http.record.onAbandoned = () => stop.abort()
    try {
      for await (const news of queue.follow(http.record.caller.tenant, taskId, afterSeq, stop.signal)) {
        if (news.kind === 'event' && isFinal(news.task.status)) return
      }
    } finally {
      cancelTimer()
    }
  }
}
