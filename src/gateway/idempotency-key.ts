import type { IncomingHttpHeaders } from 'node:http'
import { fail } from '../core/errors.ts'

const keyPattern = /^[\x20-\x7e]{1,255}$/

/** The key by which the same request sent twice is one task; null for none. */
export function readIdempotencyKey(headers: IncomingHttpHeaders): string | null {
  const key = headers['idempotency-key']
  if (key === undefined) return null
  if (typeof key === 'string' && keyPattern.test(key)) return key
  throw fail('invalid_request', {
    message: 'The header `Idempotency-Key` must be 1 to 255 printable ASCII characters.',
    param: 'Idempotency-Key',
  })
}
