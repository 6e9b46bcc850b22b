import { loadConfig } from '../config/load.ts'
import { systemClock } from '../core/clock.ts'
import { ApiError, SetupError } from '../core/errors.ts'
import { makeAccess } from '../gateway/auth/access-parts.ts'
import { describeKey } from '../gateway/auth/key-object.ts'
import { parseKeyRequest, readTenant } from '../gateway/auth/key-request.ts'
import { describeTenant, parseTenantRequest } from '../gateway/tenants/tenant-object.ts'
import type { AccessOptions } from './access.ts'
import type { AccessClient, MadeKey, ShownKey, ShownTenant } from './access-client.ts'
import { silentLog, withStore } from './with-store.ts'

const pageMax = 1_000
const leaveOut = 'While a server runs, leave out --direct: then the server is asked.'

/**
 * Works on the storage itself, without a server: how the first key of all is made, and how one goes on that has lost
 * its last. The rules are those of the routes, and so are the messages.
 */
export async function withDirectAccess<T>(
  options: AccessOptions,
  work: (client: AccessClient) => Promise<T>,
): Promise<T> {
  const { config: file, dataDir, storage } = options
  const flags = {
    ...(dataDir === undefined ? {} : { dataDir }),
    ...(storage === undefined ? {} : { storage }),
  }
  const config = loadConfig({ file, env: process.env, cwd: process.cwd(), flags })
  try {
    return await withStore(config, leaveOut, async (store) => {
      const parts = { config: () => config, store, env: process.env, clock: systemClock, log: silentLog }
      const access = makeAccess(parts)
      await access.watch.start()
      try {
        return await work(makeDirect(access))
      } finally {
        await access.watch.stop()
      }
    })
  } catch (error) {
    throw error instanceof ApiError ? new SetupError(error.message) : error
  }
}

function makeDirect({ keys, tenants }: ReturnType<typeof makeAccess>): AccessClient {
  const now = () => systemClock.wallMs()
  const show = (key: Parameters<typeof describeKey>[0]) => describeKey(key, now()) satisfies ShownKey
  return {
    createKey: async (fields) => {
      const { key, text } = await keys.create(parseKeyRequest(fields, now()))
      return { ...show(key), key: text } satisfies MadeKey
    },
    listKeys: async (tenant) => {
      const found: ShownKey[] = []
      for (;;) {
        const after = found.at(-1)?.id
        const page = await keys.list({
          ...(tenant === undefined ? {} : { tenant: readTenant(tenant, 'tenant') }),
          ...(after === undefined ? {} : { after }),
          limit: pageMax,
        })
        found.push(...page.map(show))
        if (page.length < pageMax) return found
      }
    },
    revokeKey: async (id) => show(await keys.revoke(id)),
    listTenants: () => Promise.resolve(tenants.list().map(describeTenant) satisfies ShownTenant[]),
    showTenant: (name) => {
      const tenant = tenants.show(readTenant(name, 'name'))
      return Promise.resolve(tenant.source === 'default' ? null : describeTenant(tenant))
    },
    putTenant: async (name, body) => {
      const { settings, version } = parseTenantRequest(body)
      return describeTenant(await tenants.put(readTenant(name, 'name'), settings, version))
    },
    removeTenant: async (name) => {
      if (!(await tenants.remove(readTenant(name, 'name')))) {
        throw new SetupError(`nothing is stored of the tenant ${name}`)
      }
    },
  }
}
