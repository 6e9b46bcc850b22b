import type { FastifyInstance } from 'fastify'

/** `GET /openapi.json`, beside the readable page at /docs; `/` leads there. */
export function addDocsRoutes(app: FastifyInstance): void {
  app.get('/openapi.json', { schema: { hide: true } }, () => app.swagger())
  app.get('/', { schema: { hide: true } }, (_request, reply) => reply.redirect('/docs'))
}
