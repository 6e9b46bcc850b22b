import type { IncomingMessage } from 'node:http'
import { isIP } from 'node:net'
import { fail } from '../../core/errors.ts'
import { tenantPattern } from '../../core/ids.ts'
import { permissions } from '../../config/schema.ts'
import type { Caller, Gate } from './caller.ts'

export const tenantHeader = 'x-autoglm-tenant'

const anybody: Caller = {
  tenant: 'default',
  keyId: null,
  name: null,
  roles: new Set(permissions),
  limits: null,
}

/**
 * Without authentication every caller may do everything, and is who it says it is. But it must have called this machine
 * and not a name of the internet that was made to lead here: such a name is how a foreign page would reach a server
 * that listens for its own machine alone (DNS rebinding). `hosts` are names that are ours all the same. Nor may a page of
 * another origin send what browsers send without asking first, such as a form: it would not read the answer, but be heard.
 */
export function makeOpenGate(
  hosts: readonly string[],
  { corsOrigins }: { corsOrigins: readonly string[] } = { corsOrigins: [] },
): Gate {
  let trusted = ''
  return {
    identify: (request) => {
      const { host = '', origin } = request.headers
      if (host !== trusted) {
        if (!isOurs(host, hosts)) {
          throw fail('forbidden', {
            message: `This server is not known as ${JSON.stringify(host.slice(0, 100))}: name it in \`server.hosts\`, or turn on authentication.`,
            param: 'host',
          })
        }
        trusted = host
      }
      if (origin !== undefined && !mayCall(origin, { host, hosts, corsOrigins })) {
        throw fail('forbidden', {
          message: `Pages of ${JSON.stringify(origin.slice(0, 100))} may not call this server: name them in \`server.corsOrigins\`.`,
          param: 'origin',
        })
      }
      const tenant = readTenantHeader(request)
      return tenant === null ? anybody : { ...anybody, tenant }
    },
  }
}

/** An address, a name without a dot (nobody can register one), a name below `localhost`, or one of `hosts`. */
function isOurs(host: string, hosts: readonly string[]): boolean {
  const name = host
    .replace(/:\d{0,5}$/, '')
    .replace(/\.$/, '')
    .toLowerCase()
  if (!name.includes('.') || name.endsWith('.localhost')) return true
  return isIP(name) === 4 || name.startsWith('[') || hosts.includes(name)
}

type Page = { host: string; hosts: readonly string[]; corsOrigins: readonly string[] }

/** A page of this server, or one that is let in. Programs with an origin of their own, such as extensions, are no pages. */
function mayCall(origin: string, { host, hosts, corsOrigins }: Page): boolean {
  if (origin !== 'null' && !/^https?:\/\//i.test(origin)) return true
  if (corsOrigins.includes(origin) || corsOrigins.includes('*')) return true
  if (!URL.canParse(origin)) return false
  const page = new URL(origin)
  return page.host === host.toLowerCase() || hosts.includes(page.hostname)
}

/** The tenant that a caller names in `x-autoglm-tenant`, or null. Throws invalid_request for a name that is none. */
export function readTenantHeader({ headers }: Pick<IncomingMessage, 'headers'>): string | null {
  const given = headers[tenantHeader]
  if (given === undefined) return null
  if (typeof given === 'string' && tenantPattern.test(given)) return given
  throw fail('invalid_request', {
    message: 'The header `x-autoglm-tenant` must be 1 to 100 letters, digits, `_`, `.`, `:`, `@` or `-`.',
    param: tenantHeader,
  })
}
