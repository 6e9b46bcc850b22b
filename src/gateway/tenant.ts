import type { IncomingMessage } from 'node:http'
import { fail } from '../core/errors.ts'

const pattern = /^[\w.:@-]{1,100}$/

/**
 * Whose request this is. Without authentication a caller is who it says it is, in `x-autoglm-tenant`; without that
 * header it is `default`. Throws invalid_request for a name that is none.
 */
export function readTenant(request: Pick<IncomingMessage, 'headers'>): string {
  const given = request.headers['x-autoglm-tenant']
  if (given === undefined) return 'default'
  if (typeof given === 'string' && pattern.test(given)) return given
  throw fail('invalid_request', {
    message: 'The header `x-autoglm-tenant` must be 1 to 100 letters, digits, `_`, `.`, `:`, `@` or `-`.',
    param: 'x-autoglm-tenant',
  })
}
