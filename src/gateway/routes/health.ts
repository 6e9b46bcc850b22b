import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import type { GatewayParts } from '../parts.ts'

const Health = Type.Object({
  status: Type.Enum(['healthy', 'unhealthy']),
  components: Type.Array(Type.String()),
  reasons: Type.Optional(
    Type.Array(Type.String(), { description: 'What is wrong; only when something is.' }),
  ),
})

/** `/healthz` for people and monitors, `/livez` and `/readyz` for an orchestrator. */
export function addHealthRoutes(app: FastifyInstance, parts: GatewayParts, isDraining: () => boolean): void {
  const schema = (summary: string) => ({ tags: ['health'], summary, response: { 200: Health, 503: Health } })

  app.get(
    '/healthz',
    { schema: schema('Whether every part works and every model can be served') },
    (_request, reply) => {
      const storage = parts.storageProblem()
      const reasons = [
        ...(isDraining() ? ['the server is stopping'] : []),
        ...(storage === null ? [] : [storage]),
        ...listProblems(parts),
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
    // An instance whose models are not known yet serves nobody.
    const { registry } = parts
    const serves = registry.models.some((model) =>
      registry.of(model).some((instance) => instance.isAvailable(nowMs)),
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

/** The models that can't be served now, with the states of their instances. */
function listProblems({ registry, clock }: GatewayParts): string[] {
  const nowMs = clock.now()
  if (registry.models.length === 0) return ['no model is known yet']
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
