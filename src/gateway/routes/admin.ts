import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import type { Clock } from '../../core/clock.ts'
import { fail } from '../../core/errors.ts'
import { parseBody } from '../../router/calls/body.ts'
import type { AccessParts } from '../auth/access-parts.ts'
import { describeKey, KeyObject } from '../auth/key-object.ts'
import { KeyRequest, parseKeyRequest, readTenant } from '../auth/key-request.ts'
import { isKeyId } from '../auth/key-text.ts'
import { ignoreBodies } from '../ignore-bodies.ts'
import { toPage } from '../page-query.ts'
import type { Fields } from '../read-settings.ts'
import { ErrorReply } from '../schemas.ts'
import { refuseOthers, type Query } from '../task-query.ts'
import { describeTenant, parseTenantRequest, TenantObject, TenantRequest } from '../tenants/tenant-object.ts'

export type AdminParts = {
  access: Pick<AccessParts, 'keys' | 'tenants' | 'watch'>
  clock: Clock
  settings: () => { jsonDepthMax: number }
}

type OneKey = { Params: { id: string } }
type OneTenant = { Params: { name: string } }

const errors = { '4xx': ErrorReply, '5xx': ErrorReply }
const tags = ['administration']
const id = Type.Object({ id: Type.String() })
const name = Type.Object({ name: Type.String() })
const pageMax = 100
const pageQuery = {
  after: Type.Optional(Type.String({ description: 'The last id of the page before.' })),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: pageMax, default: 20 })),
}
const page = (item: typeof KeyObject | typeof TenantObject) =>
  Type.Object({
    object: Type.Literal('list'),
    data: Type.Array(item),
    first_id: Type.Union([Type.String(), Type.Null()]),
    last_id: Type.Union([Type.String(), Type.Null()]),
    has_more: Type.Boolean(),
  })
const NewKeyObject = Type.Intersect([
  KeyObject,
  Type.Object({ key: Type.String({ description: 'The key itself: it is shown here and never again.' }) }),
])

/** Keys and tenants, for those who hold the permission `admin`. */
export function addAdminRoutes(app: FastifyInstance, parts: AdminParts): void {
  addKeyRoutes(app, parts)
  addTenantRoutes(app, parts)
}

function addKeyRoutes(app: FastifyInstance, parts: AdminParts): void {
  const { keys, watch } = parts.access
  const { clock } = parts

  const create = {
    tags,
    summary: 'Make a key; it is shown once',
    body: KeyRequest,
    response: { 200: NewKeyObject, ...errors },
  }
  app.post('/v1/admin/keys', { schema: create }, async (request, reply) => {
    const { key, text } = await keys.create(parseKeyRequest(readFields(request, parts), clock.wallMs()))
    void reply.header('cache-control', 'no-store')
    return { ...describeKey(key, clock.wallMs()), key: text }
  })

  const list = {
    tags,
    summary: 'Keys, newest first',
    querystring: Type.Object({ tenant: Type.Optional(Type.String()), ...pageQuery }),
    response: { 200: page(KeyObject), ...errors },
  }
  app.get('/v1/admin/keys', { schema: list, exposeHeadRoute: false }, (request) =>
    listKeys(request.query as Query),
  )

  const show = { tags, summary: 'One key', params: id, response: { 200: KeyObject, ...errors } }
  app.get<OneKey>('/v1/admin/keys/:id', { schema: show, exposeHeadRoute: false }, (request) =>
    keys.find(readKeyId(request)).then((key) => describeKey(key, clock.wallMs())),
  )

  const revoke = {
    tags,
    summary: 'Revoke a key: it and its tokens are refused within a second, on every server',
    params: id,
    response: { 200: KeyObject, ...errors },
  }
  app.register((scope, _options, done) => {
    ignoreBodies(scope)
    scope.post<OneKey>('/v1/admin/keys/:id/revoke', { schema: revoke }, (request) =>
      revokeNow(readKeyId(request)),
    )
    done()
  })

  async function listKeys(query: Query) {
    const { after, limit } = readPage(query, ['tenant'])
    if (after !== undefined && !isKeyId(after)) throw invalid('after', 'must be the id of a key')
    const { tenant } = query
    const found = await keys.list({
      ...(tenant === undefined ? {} : { tenant: readTenant(tenant, 'tenant') }),
      ...(after === undefined ? {} : { after }),
      limit: limit + 1,
    })
    const shown = found.slice(0, limit).map((key) => describeKey(key, clock.wallMs()))
    return toPage(shown, found.length > limit)
  }

  async function revokeNow(id: string) {
    const key = await keys.revoke(id)
    // So that this server at least refuses it before it says that it does.
    await watch.refresh()
    return describeKey(key, clock.wallMs())
  }
}

function addTenantRoutes(app: FastifyInstance, parts: AdminParts): void {
  const { tenants } = parts.access

  const list = {
    tags,
    summary: 'Tenants of whom something is said, by name',
    querystring: Type.Object(pageQuery),
    response: { 200: page(TenantObject), ...errors },
  }
  app.get('/v1/admin/tenants', { schema: list, exposeHeadRoute: false }, (request) => {
    const { after, limit } = readPage(request.query as Query, [])
    const found = tenants.list().filter(({ name }) => after === undefined || name > after)
    return toPage(found.slice(0, limit).map(describeTenant), found.length > limit)
  })

  const show = {
    tags,
    summary: 'One tenant, with the settings in effect',
    params: name,
    response: { 200: TenantObject, ...errors },
  }
  app.get<OneTenant>('/v1/admin/tenants/:name', { schema: show, exposeHeadRoute: false }, (request) => {
    const tenant = tenants.show(readTenant(request.params.name, 'name'))
    if (tenant.source === 'default') throw unknownTenant(tenant.name)
    return describeTenant(tenant)
  })

  const put = {
    tags,
    summary: "Set what is a tenant's own",
    params: name,
    body: TenantRequest,
    response: { 200: TenantObject, ...errors },
  }
  app.put<OneTenant>('/v1/admin/tenants/:name', { schema: put }, (request) => {
    const tenant = readTenant(request.params.name, 'name')
    const { settings, version } = parseTenantRequest(readFields(request, parts))
    return tenants.put(tenant, settings, version).then(describeTenant)
  })

  const remove = {
    tags,
    summary: 'Forget what was set; its keys, tasks and files stay',
    params: name,
    response: { 204: Type.Null(), ...errors },
  }
  app.register((scope, _options, done) => {
    ignoreBodies(scope)
    scope.delete<OneTenant>('/v1/admin/tenants/:name', { schema: remove }, async (request, reply) => {
      const tenant = readTenant(request.params.name, 'name')
      if (!(await tenants.remove(tenant))) throw unknownTenant(tenant)
      return reply.code(204).send()
    })
    done()
  })
}

function readFields(request: FastifyRequest, { settings }: AdminParts): Fields {
  refuseOthers(request.query as Query, [])
  return parseBody((request.body as Buffer | undefined) ?? Buffer.alloc(0), settings().jsonDepthMax)
}

function readKeyId({ params, query }: FastifyRequest<OneKey>): string {
  refuseOthers(query as Query, [])
  if (isKeyId(params.id)) return params.id
  throw fail('key_not_found')
}

function readPage(query: Query, more: readonly string[]): { after?: string; limit: number } {
  refuseOthers(query, [...more, 'after', 'limit'])
  const { after, limit = '20' } = query
  if (typeof after !== 'string' && after !== undefined) throw invalid('after', 'can be given once only')
  const count = typeof limit === 'string' && /^\d{1,9}$/.test(limit) ? Number(limit) : 0
  if (count < 1 || count > pageMax) throw invalid('limit', `must be a whole number from 1 to ${pageMax}`)
  return { ...(after === undefined ? {} : { after }), limit: count }
}

const invalid = (param: string, what: string) =>
  fail('invalid_request', { message: `\`${param}\` ${what}.`, param })

const unknownTenant = (tenant: string) =>
  fail('tenant_not_found', {
    message: `Nothing is said of the tenant \`${tenant}\`: the settings of \`default\` hold for it.`,
  })
