import type { FastifyInstance } from 'fastify'

/** For routes that need no body: whatever comes as one, of any type, is read and left. */
export function ignoreBodies(scope: FastifyInstance): void {
  scope.removeAllContentTypeParsers()
  scope.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, _body, parsed) => parsed(null))
}
