import type { Config, TenantSettings } from '../../config/schema.ts'
import type { KeepTimes } from '../../queue/pruner.ts'
import type { TenantBook } from './tenant-book.ts'

type Storage = Pick<Config['storage'], 'keepFinishedMs' | 'keepFinishedMax' | 'keepFilesMs'>

/** How long files and stored responses of a tenant are kept: 0 of its own stands for that of all. */
export function keepFilesMs(
  settings: Pick<TenantSettings, 'keepFilesMs'>,
  storage: Pick<Storage, 'keepFilesMs'>,
): number {
  return settings.keepFilesMs || storage.keepFilesMs
}

/** How long ended tasks are kept. Tenants of whom nothing is said are those of `default`. */
export function readKeepTimes(tenants: Pick<TenantBook, 'of' | 'list'>, storage: Storage): KeepTimes {
  const keepMs = ({ keepFinishedMs }: TenantSettings) => keepFinishedMs || storage.keepFinishedMs
  return {
    keepMs: keepMs(tenants.of('default')),
    own: tenants.list().map(({ name, settings }) => ({ tenant: name, keepMs: keepMs(settings) })),
    finishedMax: storage.keepFinishedMax,
  }
}
