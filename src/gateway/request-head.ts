import type { IncomingMessage } from 'node:http'
import { fail, type ApiError } from '../core/errors.ts'

/** More than any client sends. */
export const headersMax = 100

/**
 * Why a request is refused by its head alone, whatever it asks for; null for nothing. What Node's parser lets through
 * and others read in another way ends here, and so does its connection: where its body ends is in doubt.
 * Source: RFC 9112, sections 3.2, 6.1 and 6.3. Runs at every request, so it compares and builds nothing.
 */
export function judgeHead({
  headers,
  rawHeaders,
  httpVersion,
  url,
  method,
}: IncomingMessage): ApiError | null {
  if (httpVersion !== '1.1' && httpVersion !== '1.0') {
    return refuseHead('The version of HTTP is 1.1 here.')
  }
  if (headers.host === undefined && httpVersion === '1.1') {
    return fail('invalid_request', { message: 'The header `Host` is missing.', param: 'host' })
  }
  const coding = headers['transfer-encoding']
  if (coding !== undefined && (httpVersion === '1.0' || coding.toLowerCase() !== 'chunked')) {
    return refuseHead('The only `Transfer-Encoding` that is read here is `chunked`, in HTTP/1.1.')
  }
  if (rawHeaders.length > 2 * headersMax) return fail('headers_too_large')
  const twice = findTwice(rawHeaders)
  if (twice !== null) return refuseHead(`The header \`${twice}\` can be sent once only.`, twice)
  if (!isPath(url, method)) return refuseHead('The target of a request is a path that begins with `/`.')
  const { expect } = headers
  if (expect !== undefined && expect.toLowerCase() !== '100-continue') {
    return fail('invalid_request', {
      message: 'The only `Expect` that is met here is `100-continue`.',
      param: 'expect',
    })
  }
  return null
}

const refuseHead = (message: string, param?: string): ApiError =>
  fail('invalid_request', {
    message,
    headers: { connection: 'close' },
    ...(param === undefined ? {} : { param }),
  })

/** The name of a header whose second one may be meant to be read by somebody else than the first. */
function findTwice(rawHeaders: readonly string[]): 'host' | 'authorization' | null {
  let hosts = 0
  let authorizations = 0
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] as string
    // Most names are told apart by their length.
    if (name.length === 4 && name.toLowerCase() === 'host') hosts += 1
    else if (name.length === 13 && name.toLowerCase() === 'authorization') authorizations += 1
  }
  if (hosts > 1) return 'host'
  return authorizations > 1 ? 'authorization' : null
}

/** Proxies may send the whole URL; `*` stands for the server, and is asked about by OPTIONS alone. */
function isPath(url: string | undefined, method: string | undefined): boolean {
  if (url === undefined) return false
  return url[0] === '/' || /^https?:\/\//i.test(url) || (url === '*' && method === 'OPTIONS')
}
