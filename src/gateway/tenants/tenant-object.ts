import { Type, type TSchema } from 'typebox'
import { TenantEntry, type TenantSettings } from '../../config/schema.ts'
import { fail } from '../../core/errors.ts'
import { readSettings, refuseStrangers, type Fields } from '../read-settings.ts'
import { tenantSources, type KnownTenant } from './tenant-book.ts'
import { plainTenant } from './tenant-settings.ts'

const nullable = (schema: TSchema) => Type.Union([schema, Type.Null()])

/** A tenant as the routes of administration show it. */
export const TenantObject = Type.Object({
  id: Type.String(),
  object: Type.Literal('tenant'),
  source: Type.Enum([...tenantSources], {
    description:
      'Where its settings are from: the configuration file, the storage, or nowhere of its own. `unreadable`: what is ' +
      'stored can not be read, and nothing of the tenant is let through until it is set again.',
  }),
  settings: TenantEntry,
  version: nullable(Type.Integer({ description: 'Counts the changes of what is stored.' })),
  updated_at: nullable(Type.Integer({ description: 'Unix seconds' })),
})

export const TenantRequest = Type.Object({
  settings: Type.Partial(TenantEntry, {
    description: 'The names of `tenants` in the configuration; what is left out is as by default.',
  }),
  version: Type.Optional(
    Type.Integer({
      minimum: 0,
      description: 'The version that was read, 0 for a new tenant: another is refused with 409.',
    }),
  ),
})

export function describeTenant({ name, source, settings, row }: KnownTenant) {
  return {
    id: name,
    object: 'tenant',
    source,
    // Who reads them in order to change one must not store what stands for those that are not known.
    settings: source === 'unreadable' ? plainTenant : settings,
    version: row?.version ?? null,
    updated_at: row === null ? null : Math.floor(row.updatedAtMs / 1_000),
  }
}

/** The body of `PUT /v1/admin/tenants/:name`. Throws invalid_request, naming the field. */
export function parseTenantRequest(fields: Fields): {
  settings: Partial<TenantSettings>
  version: number | null
} {
  refuseStrangers(fields, Object.keys(TenantRequest.properties))
  const { settings, version = null } = fields
  // Judged as a whole, and stored as given: a default that changes is to change for all.
  readSettings(TenantEntry, settings, 'settings')
  if (version !== null && !(Number.isSafeInteger(version) && (version as number) >= 0)) {
    throw fail('invalid_request', {
      message: '`version` must be the whole number that was read.',
      param: 'version',
    })
  }
  return { settings: settings as Partial<TenantSettings>, version: version as number | null }
}
