import { Create } from 'typebox/value'
import { TenantEntry, type Config, type TenantSettings } from '../../config/schema.ts'
import { bands } from '../../queue/task.ts'
import type { TenantRules } from '../../queue/queue.ts'

/** A tenant of whom nothing is said. */
export const plainTenant: TenantSettings = Create(TenantEntry)

/** What the configuration says of a tenant by its name; null for nothing. */
export function findInConfig({ tenants }: Pick<Config, 'tenants'>, name: string): TenantSettings | null {
  return Object.hasOwn(tenants, name) ? (tenants[name] as TenantSettings) : null
}

/** Whether a tenant may name a model: by the name that it uses, or by the one that this stands for. */
export function mayUse({ models }: TenantSettings, name: string, resolved: string | null): boolean {
  return models.length === 0 || models.includes(name) || (resolved !== null && models.includes(resolved))
}

/** What the queue must know of a tenant. */
export function toTenantRules(
  settings: TenantSettings,
  resolve: (name: string) => string | null,
): TenantRules {
  return {
    weight: settings.weight,
    bandMin: bands[settings.priorityMax],
    mayUse: (name) => mayUse(settings, name, resolve(name)),
  }
}
