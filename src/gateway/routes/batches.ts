import type { FastifyInstance } from 'fastify'
import { parseBatchRequest } from '../../queue/batches/batch-request.ts'
import type { Batches } from '../../queue/batches/batches.ts'
import { parseBody } from '../../router/calls/body.ts'
import { describeBatch } from '../batch-object.ts'
import { cancelSchema, createSchema, listSchema, showSchema } from '../batch-schemas.ts'
import { ignoreBodies } from '../ignore-bodies.ts'
import { parsePage, toPage } from '../page-query.ts'
import type { ApiParts } from '../parts.ts'
import { refuseOthers, type Query } from '../task-query.ts'

export type BatchParts = Pick<ApiParts, 'settings'> & { batches: Batches }
type OneBatch = { Params: { id: string } }

/** The batches of a tenant: create, list, show, cancel. */
export function addBatchRoutes(app: FastifyInstance, { batches, settings }: BatchParts): void {
  app.post('/v1/batches', { schema: createSchema }, (request) => {
    refuseOthers(request.query as Query, [])
    const body = parseBody((request.body as Buffer | undefined) ?? Buffer.alloc(0), settings().jsonDepthMax)
    const { tenant, keyId } = request.record.caller
    return batches.create(tenant, parseBatchRequest(body), keyId).then(describeBatch)
  })

  const rules = { known: ['after', 'limit'], limitDefault: 20, limitMax: 100 } as const
  app.get('/v1/batches', { schema: listSchema }, (request) =>
    batches
      .list(request.record.caller.tenant, parsePage(request.query as Query, rules))
      .then((found) => toPage(found.batches.map(describeBatch), found.hasMore)),
  )

  app.get<OneBatch>('/v1/batches/:id', { schema: showSchema }, (request) =>
    batches.get(request.record.caller.tenant, request.params.id).then(describeBatch),
  )

  app.register((scope, _options, done) => {
    ignoreBodies(scope)
    scope.post<OneBatch>('/v1/batches/:id/cancel', { schema: cancelSchema }, (request) =>
      batches.cancel(request.record.caller.tenant, request.params.id).then(describeBatch),
    )
    done()
  })
}
