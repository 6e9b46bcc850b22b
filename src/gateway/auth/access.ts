import { strict as assert } from 'node:assert'
import type { Caller, Permission } from './caller.ts'
import { missingPermission } from './refusal.ts'

/**
 * What a route asks for: one of these permissions (`admin` stands for each), `known` for whoever has shown a good key
 * or token, `public` for anybody.
 */
export type Access = readonly Permission[] | 'known' | 'public'

const submits = ['tasks'] as const
const looks = ['tasks', 'read'] as const
const responds = ['inference'] as const
const manages = ['admin'] as const
const looksAtResponses = ['inference', 'read'] as const
/** At what is its tenant's own: what other tenants have used takes `admin`, which the route itself asks for. */
const looksAtUsage = ['read', 'tasks', 'inference'] as const

/** Every route with what it asks for. A server with a route that is not here does not start. */
const table: Readonly<Record<string, Access>> = {
  'POST /v1/completions': responds,
  'POST /v1/chat/completions': responds,
  'POST /v1/embeddings': responds,
  'GET /v1/models': 'known',
  'GET /v1/models/:id': 'known',
  'GET /v1/models/*': 'known',
  'POST /v1/responses': responds,
  'GET /v1/responses/:id': looksAtResponses,
  'GET /v1/responses/:id/input_items': looksAtResponses,
  'POST /v1/responses/:id/cancel': responds,
  'DELETE /v1/responses/:id': responds,
  'POST /v1/tasks': submits,
  'GET /v1/tasks': looks,
  'GET /v1/tasks/:id': looks,
  'GET /v1/tasks/:id/events': looks,
  'POST /v1/tasks/:id/cancel': submits,
  'POST /v1/tasks/:id/requeue': submits,
  'DELETE /v1/tasks/:id': submits,
  'POST /v1/files': submits,
  'GET /v1/files': looks,
  'GET /v1/files/:id': looks,
  'GET /v1/files/:id/content': looks,
  'DELETE /v1/files/:id': submits,
  'POST /v1/batches': submits,
  'GET /v1/batches': looks,
  'GET /v1/batches/:id': looks,
  'POST /v1/batches/:id/cancel': submits,
  'GET /v1/usage': looksAtUsage,
  'POST /auth/token': 'known',
  'GET /.well-known/jwks.json': 'public',
  'GET /v1/admin/keys': manages,
  'POST /v1/admin/keys': manages,
  'GET /v1/admin/keys/:id': manages,
  'POST /v1/admin/keys/:id/revoke': manages,
  'GET /v1/admin/tenants': manages,
  'GET /v1/admin/tenants/:name': manages,
  'PUT /v1/admin/tenants/:name': manages,
  'DELETE /v1/admin/tenants/:name': manages,
  'GET /metrics': manages,
  'GET /healthz': 'public',
  'GET /livez': 'public',
  'GET /readyz': 'public',
  'GET /openapi.json': 'public',
  'GET /': 'public',
}

/** The documents and their pictures: nobody's data. */
const docsPattern = /^(GET|HEAD) \/docs(\/.*)?$/

/** What a route asks for, by its method and pattern. Throws for a route that nobody has thought about. */
export function accessOf(method: string, url: string): Access {
  // Whoever may see an answer may see its head.
  const access = table[`${method === 'HEAD' ? 'GET' : method} ${url}`]
  if (access !== undefined) return access
  assert(docsPattern.test(`${method} ${url}`), `the table in access.ts has no line for ${method} ${url}`)
  return 'public'
}

/** Throws forbidden, with the permission that is missing. */
export function requireAccess({ roles }: Pick<Caller, 'roles'>, access: Access): void {
  if (typeof access === 'string' || roles.has('admin')) return
  for (const permission of access) if (roles.has(permission)) return
  const wanted = access.map((permission) => `\`${permission}\``).join(' or ')
  throw missingPermission(
    `This needs the permission ${wanted}, which your key or token does not have.`,
    access,
  )
}
