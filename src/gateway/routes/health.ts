import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import type { GatewayParts } from '../parts.ts'

const Health = Type.Object({
  status: Type.Enum(['healthy', 'unhealthy']),
  components: Type.Array(Type.String()),
  reasons: Type.Optional(
    Type.Array(Type.String(), {
      description:
        'What is wrong; only when something is. Models and instances are named to callers with the permission `admin`.',
    }),
  ),
})

const noModel = 'no model is known yet'

export type HealthParts = GatewayParts & {
  isDraining: () => boolean
  /** Whether a caller may hear of models and instances by name. Never throws: who is unknown may not. */
  maySeeAll: (request: FastifyRequest) => boolean | Promise<boolean>
}

/** `/healthz` for people and monitors, `/livez` and `/readyz` for an orchestrator. */
export function addHealthRoutes(app: FastifyInstance, parts: HealthParts): void {
  const { isDraining, maySeeAll } = parts
  const schema = (summary: string) => ({ tags: ['health'], summary, response: { 200: Health, 503: Health } })

  app.get(
    '/healthz',
    { schema: schema('Whether every part works and every model can be served') },
    async (request, reply) => {
      const storage = parts.storageProblem()
      const models = listProblems(parts)
      const hasProblem = storage !== null || models.length > 0
      // Whose models there are, where the storage is: strangers hear how much of it is wrong, and no names.
      const showsAll = hasProblem && (await maySeeAll(request))
      const reasons = [
        ...(isDraining() ? ['the server is stopping'] : []),
        ...(storage === null ? [] : [showsAll ? storage : 'the storage takes no writes']),
        ...(showsAll ? models : countProblems(models.length, parts)),
      ]
      const status = reasons.length === 0 ? 'healthy' : 'unhealthy'
      void reply.code(reasons.length === 0 ? 200 : 503)
      return { status, components: parts.components, ...(reasons.length === 0 ? {} : { reasons }) }
    },
  )

  app.get('/livez', { schema: schema('Whether the process works at all; if not, restart it') }, () => {
    return { status: 'healthy', components: parts.components }
  })

  app.get('/readyz', { schema: schema('Whether requests should be sent here') }, (_request, reply) => {
    const nowMs = parts.clock.now()
    // An instance whose models are not known yet serves nobody. A breaker that is open does not count: it is passed
    // over when nobody else is there.
    const { registry } = parts
    const serves = registry.models.some((model) =>
      registry.of(model).some((instance) => instance.hasRoom(nowMs)),
    )
    const reasons = [
      ...(isDraining() ? ['the server is stopping'] : []),
      ...(serves ? [] : ['no instance is available']),
    ]
    void reply.code(reasons.length === 0 ? 200 : 503)
    return {
      status: reasons.length === 0 ? 'healthy' : 'unhealthy',
      components: parts.components,
      ...(reasons.length === 0 ? {} : { reasons }),
    }
  })
}

/** The same without names. */
function countProblems(ill: number, { registry }: GatewayParts): string[] {
  const known = registry.models.length
  if (ill === 0) return []
  return [known === 0 ? noModel : `no instance is well of ${ill} of ${known} models`]
}

/** The models that can't be served now, with the states of their instances. */
function listProblems({ registry, clock }: GatewayParts): string[] {
  const nowMs = clock.now()
  if (registry.models.length === 0) return [noModel]
  return registry.models.flatMap((model) => {
    const instances = registry.of(model)
    // An instance that is merely full is well.
    if (instances.some((instance) => instance.state === 'ready' && nowMs >= instance.ejectedUntilMs))
      return []
    const states = instances.map(
      ({ id, state, ejectedUntilMs }) => `${id} is ${nowMs < ejectedUntilMs ? 'ejected' : state}`,
    )
    return [`no instance of ${model} is well: ${states.join(', ')}`]
  })
}
