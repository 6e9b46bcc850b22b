import type { FastifyInstance } from 'fastify'
import type { GatewayParts } from '../parts.ts'

/** `GET /metrics` in Prometheus' text format. */
export function addMetricsRoute(app: FastifyInstance, { metrics }: GatewayParts): void {
  const schema = {
    tags: ['health'],
    summary: 'Metrics in the text format of Prometheus',
    produces: ['text/plain'],
  }
  app.get('/metrics', { schema }, async (_request, reply) => {
    const text = await metrics.expose()
    return reply.header('content-type', metrics.contentType).serializer(String).send(text)
  })
}
