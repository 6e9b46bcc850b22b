import type { IncomingMessage, ServerResponse } from 'node:http'

/** What a page may read of an answer, beside its body. */
const exposed = [
  ...['x-request-id', 'x-autoglm-model', 'x-autoglm-instance', 'x-autoglm-cache', 'retry-after', 'age'],
  ...['requests', 'tokens'].flatMap((what) =>
    ['limit', 'remaining', 'reset'].map((part) => `x-ratelimit-${part}-${what}`),
  ),
].join(', ')
const methods = 'GET, POST, PUT, DELETE, OPTIONS'
/** How long a browser may remember an answer to its question, in seconds. */
const rememberedS = '600'

/**
 * Lets pages of the origins named call this server; true when the request was only a browser's question and is
 * answered. Keys travel in headers and no cookie counts here, so credentials are never allowed to come by themselves.
 * Source: the Fetch standard, https://fetch.spec.whatwg.org/#http-cors-protocol
 */
export function allowOrigin(
  request: IncomingMessage,
  response: ServerResponse,
  origins: readonly string[],
): boolean {
  const { origin } = request.headers
  const any = origins.includes('*')
  // Also where none is named: what a cache keeps of this answer must not be given to a page.
  if (!any) response.setHeader('vary', 'origin')
  if (origin === undefined || (!any && !origins.includes(origin))) return false
  response.setHeader('access-control-allow-origin', any ? '*' : origin)
  if (request.method !== 'OPTIONS' || request.headers['access-control-request-method'] === undefined) {
    response.setHeader('access-control-expose-headers', exposed)
    return false
  }
  response.writeHead(204, [
    ...['access-control-allow-methods', methods, 'access-control-max-age', rememberedS],
    // `*` does not cover `authorization`, so the names asked for are given back.
    ...['access-control-allow-headers', request.headers['access-control-request-headers'] ?? ''],
    ...['content-length', '0'],
  ])
  response.end()
  return true
}
