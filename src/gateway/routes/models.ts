import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { fail } from '../../core/errors.ts'
import type { ApiParts } from '../parts.ts'
import { ErrorReply } from '../schemas.ts'
import { mayUse } from '../tenants/tenant-settings.ts'

const Model = Type.Object({
  id: Type.String(),
  object: Type.Literal('model'),
  created: Type.Integer({ description: 'When this server began to serve it, in Unix seconds.' }),
  owned_by: Type.String(),
  alias_of: Type.Optional(Type.String()),
  instances: Type.Object({ total: Type.Integer(), available: Type.Integer() }),
})

/** `GET /v1/models` and `GET /v1/models/{id}`. */
export function addModelRoutes(
  app: FastifyInstance,
  { registry, router, clock, settingsOf }: ApiParts,
): void {
  const created = Math.floor(clock.wallMs() / 1000)

  const describe = (id: string, tenant: string) => {
    const model = router.resolve(id)
    if (model === null || !mayUse(settingsOf(tenant), id, model)) return null
    const instances = registry.of(model)
    const nowMs = clock.now()
    return {
      id,
      object: 'model',
      created,
      owned_by: 'open-autoglm',
      ...(model === id ? {} : { alias_of: model }),
      instances: {
        total: instances.length,
        available: instances.filter((instance) => instance.isAvailable(nowMs)).length,
      },
    }
  }

  const schema = { tags: ['models'], summary: 'Models and aliases that callers may name' }
  const list = Type.Object({ object: Type.Literal('list'), data: Type.Array(Model) })
  app.get('/v1/models', { schema: { ...schema, response: { 200: list } } }, ({ record }) => {
    const names = [...new Set([...registry.models, ...Object.keys(router.aliases)])]
    return {
      object: 'list',
      data: names.map((name) => describe(name, record.caller.tenant)).filter((model) => model !== null),
    }
  })

  const one = {
    tags: ['models'],
    summary: 'One model',
    params: Type.Object({ id: Type.String() }),
    response: { 200: Model, 404: ErrorReply },
  }
  const find = (id: string, { record }: FastifyRequest) => {
    const model = describe(id, record.caller.tenant)
    if (model) return model
    throw fail('model_not_found', {
      message: `The model \`${id.slice(0, 200)}\` is not served here.`,
      param: 'model',
    })
  }
  app.get<{ Params: { id: string } }>('/v1/models/:id', { schema: one }, (request) =>
    find(request.params.id, request),
  )
  // Names of the form `organisation/model` have a slash of their own.
  app.get<{ Params: { '*': string } }>('/v1/models/*', { schema: { hide: true } }, (request) =>
    find(request.params['*'], request),
  )
}
