import { Create } from 'typebox/value'
import { TenantEntry, type TenantSettings } from '../../config/schema.ts'
import { fail } from '../../core/errors.ts'
import { bands } from '../../queue/task.ts'
import type { TenantRules } from '../../queue/queue.ts'

/** A tenant of whom nothing is said. */
export const plainTenant: TenantSettings = Create(TenantEntry)

/** The longest that the configuration allows. */
const keepMsMax = 365 * 86_400_000

/**
 * A tenant of whom something is stored that can't be read. What limits it is not known, so it is let through nowhere
 * (`mayUse` and `toTenantRules` throw), and what it has is kept for as long as any tenant's can be.
 */
export const closedTenant: TenantSettings = Object.freeze({
  ...plainTenant,
  keepFinishedMs: keepMsMax,
  keepFilesMs: keepMsMax,
})

/** Somebody has to mend it: clients need not come again in a moment, and batches and brokers wait. */
const closedRetryAfterMs = 30_000

function refuseClosed(settings: TenantSettings): void {
  if (settings !== closedTenant) return
  throw fail('storage_unavailable', {
    message:
      'The settings that are stored of this tenant can not be read, so nothing of it is let through until an ' +
      'administrator sets them again; the log of the server names it.',
    retryAfterMs: closedRetryAfterMs,
  })
}

/**
 * Whether a tenant may name a model: by the name that it uses, or by the one that this stands for. Throws
 * storage_unavailable for `closedTenant`.
 */
export function mayUse(settings: TenantSettings, name: string, resolved: string | null): boolean {
  refuseClosed(settings)
  const { models } = settings
  return models.length === 0 || models.includes(name) || (resolved !== null && models.includes(resolved))
}

/** What the queue must know of a tenant. Throws storage_unavailable for `closedTenant`. */
export function toTenantRules(
  settings: TenantSettings,
  resolve: (name: string) => string | null,
): TenantRules {
  refuseClosed(settings)
  return {
    weight: settings.weight,
    bandMin: bands[settings.priorityMax],
    mayUse: (name) => mayUse(settings, name, resolve(name)),
  }
}
