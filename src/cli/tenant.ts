import { readValue } from '../config/read-value.ts'
import { toRule } from '../config/knobs.ts'
import { TenantEntry, type TenantSettings } from '../config/schema.ts'
import { SetupError } from '../core/errors.ts'
import type { AccessOptions } from './access.ts'
import { withAccess, type ShownTenant } from './access-client.ts'
import { formatTable } from './models.ts'

const write = (text: string) => void process.stdout.write(`${text}\n`)
const writeJson = (value: unknown) => write(JSON.stringify(value, null, 2))
const rules = toRule(TenantEntry).properties ?? {}

export async function listTenants(options: AccessOptions): Promise<number> {
  const tenants = await withAccess(options, (client) => client.listTenants())
  if (options.json) writeJson({ tenants })
  else write(tenants.length === 0 ? 'nothing is said of any tenant: all are as by default' : format(tenants))
  return 0
}

function format(tenants: readonly ShownTenant[]): string {
  const rows = tenants.map(({ id, source, settings }) => [id, source, listOwn(settings).join(' ') || '-'])
  return formatTable([['TENANT', 'SOURCE', 'SETTINGS'], ...rows])
}

/** What differs from the defaults, as `tenant set` takes it. */
function listOwn(settings: TenantSettings): string[] {
  return Object.entries(settings)
    .filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(rules[name]?.default))
    .map(([name, value]) => `${name}=${typeof value === 'object' ? JSON.stringify(value) : String(value)}`)
}

export async function showTenant(name: string, options: AccessOptions): Promise<number> {
  const tenant = await withAccess(options, (client) => client.showTenant(name))
  if (!tenant) throw new SetupError(`nothing is said of the tenant ${name}: it is as the tenant default`)
  if (options.json) writeJson(tenant)
  else {
    const lines = Object.entries(tenant.settings).map(
      ([key, value]) => `  ${key}: ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`,
    )
    write([`${tenant.id} (${tenant.source})`, ...lines].join('\n'))
  }
  return 0
}

/** Changes some settings and leaves the others; somebody else's change in between is told and not overwritten. */
export async function setTenant(
  name: string,
  pairs: readonly string[],
  options: AccessOptions,
): Promise<number> {
  if (pairs.length === 0) throw new SetupError('there is nothing to set; name settings such as weight=2')
  const changes = pairs.map(readPair)
  const tenant = await withAccess(options, async (client) => {
    const before = await client.showTenant(name)
    const settings: Record<string, unknown> = { ...before?.settings }
    for (const { key, value } of changes) {
      if (value === undefined) delete settings[key]
      else settings[key] = value
    }
    // What is as by default is not stored: a default that changes is to change for all.
    const own = Object.entries(settings).filter(
      ([key, value]) => JSON.stringify(value) !== JSON.stringify(rules[key]?.default),
    )
    return client.putTenant(name, { settings: Object.fromEntries(own), version: before?.version ?? 0 })
  })
  if (options.json) writeJson(tenant)
  else write(`${tenant.id}: ${listOwn(tenant.settings).join(' ') || 'as by default'}`)
  return 0
}

/** `weight=2`; nothing behind the sign for the default. */
function readPair(pair: string): { key: string; value: unknown } {
  const at = pair.indexOf('=')
  const key = pair.slice(0, Math.max(at, 0))
  const rule = Object.hasOwn(rules, key) ? rules[key] : undefined
  if (at < 1) throw new SetupError(`${pair} is not allowed; a pair such as weight=2`)
  if (!rule) {
    throw new SetupError(`${key} is not a setting of a tenant; there are ${Object.keys(rules).join(', ')}`)
  }
  const text = pair.slice(at + 1)
  if (text === '') return { key, value: undefined }
  const read = readValue(text, rule)
  if ('mistake' in read) throw new SetupError(`${key}: ${read.mistake}`)
  return { key, value: read.value }
}

export async function removeTenant(name: string, options: AccessOptions): Promise<number> {
  await withAccess(options, (client) => client.removeTenant(name))
  if (options.json) writeJson({ id: name, removed: true })
  else write(`${name}: what was set is forgotten; its keys, tasks and files stay`)
  return 0
}
