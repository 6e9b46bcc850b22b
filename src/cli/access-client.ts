import type { TenantSettings } from '../config/schema.ts'
import { SetupError } from '../core/errors.ts'
import {
  ask,
  askForJson,
  explainStatus,
  findServer,
  jsonBody,
  NoServer,
  readPages,
  type Server,
} from './api-client.ts'
import type { AccessOptions } from './access.ts'

/** What the routes of administration answer. */
export type ShownKey = {
  id: string
  tenant: string
  name: string
  status: string
  roles: readonly string[]
  limits: unknown
  created_at: number
  expires_at: number | null
  revoked_at: number | null
}
export type MadeKey = ShownKey & { key: string }
export type ShownTenant = {
  id: string
  source: string
  settings: TenantSettings
  /** Of what is stored; null for nothing. */
  version: number | null
  updated_at: number | null
}
type KeyFields = Record<string, unknown> & { tenant: string }

/** Keys and tenants, by way of a server or past it. */
export type AccessClient = {
  createKey(fields: KeyFields): Promise<MadeKey>
  listKeys(tenant: string | undefined): Promise<ShownKey[]>
  revokeKey(id: string): Promise<ShownKey>
  listTenants(): Promise<ShownTenant[]>
  /** Null when nothing is said of it. */
  showTenant(name: string): Promise<ShownTenant | null>
  putTenant(name: string, body: { settings: object; version: number | null }): Promise<ShownTenant>
  removeTenant(name: string): Promise<void>
}

/** Runs `work` with the client that the options ask for, and closes it. */
export async function withAccess<T>(
  options: AccessOptions,
  work: (client: AccessClient) => Promise<T>,
): Promise<T> {
  if (options.direct) return (await import('./access-direct.ts')).withDirectAccess(options, work)
  const misplaced = (['config', 'dataDir', 'storage'] as const).find((name) => options[name] !== undefined)
  if (misplaced !== undefined) {
    const flag = misplaced === 'dataDir' ? 'data-dir' : misplaced
    throw new SetupError(`--${flag} is for --direct: without that, a running server is asked (--url)`)
  }
  try {
    return await work(makeRemote(findServer(options.url, process.env)))
  } catch (error) {
    if (!(error instanceof NoServer)) throw error
    throw new SetupError(
      `${error.message}\nor work on the storage itself, while no server runs, with --direct`,
    )
  }
}

const pageMax = 100

function makeRemote(server: Server): AccessClient {
  const json = (path: string, init?: RequestInit) => askForJson(server, path, init)
  const tenantPath = (name: string) => `/v1/admin/tenants/${encodeURIComponent(name)}`
  return {
    createKey: async (fields) => (await json('/v1/admin/keys', jsonBody(fields))) as MadeKey,
    listKeys: (tenant) => listAll<ShownKey>(server, '/v1/admin/keys', tenant === undefined ? {} : { tenant }),
    revokeKey: async (id) => {
      const path = `/v1/admin/keys/${encodeURIComponent(id)}/revoke`
      return (await json(path, { method: 'POST' })) as ShownKey
    },
    listTenants: () => listAll<ShownTenant>(server, '/v1/admin/tenants', {}),
    showTenant: async (name) => {
      const path = tenantPath(name)
      const response = await ask(server, path)
      if (response.status === 404 && (await isUnknownTenant(response.clone()))) return null
      if (!response.ok) throw await explainStatus(server, path, response)
      return (await response.json()) as ShownTenant
    },
    putTenant: async (name, body) =>
      (await json(tenantPath(name), { ...jsonBody(body), method: 'PUT' })) as ShownTenant,
    removeTenant: async (name) => {
      const path = tenantPath(name)
      const response = await ask(server, path, { method: 'DELETE' })
      if (!response.ok) throw await explainStatus(server, path, response)
    },
  }
}

async function listAll<Row extends { id: string }>(
  server: Server,
  path: string,
  query: Record<string, string>,
): Promise<Row[]> {
  const rows: Row[] = []
  for await (const { data } of readPages<Row>(server, path, { query, pageMax })) rows.push(...data)
  return rows
}

async function isUnknownTenant(response: Response): Promise<boolean> {
  const body = (await response.json().catch(() => null)) as { error?: { code?: unknown } } | null
  return body?.error?.code === 'tenant_not_found'
}
