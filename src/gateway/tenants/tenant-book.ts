import { Check, Clean, Default } from 'typebox/value'
import { TenantEntry, type Config, type TenantSettings } from '../../config/schema.ts'
import type { Clock } from '../../core/clock.ts'
import { fail } from '../../core/errors.ts'
import type { AccessStore, TenantRow } from '../../storage/access-store.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { AccessWatch } from '../auth/access-watch.ts'
import { closedTenant, plainTenant } from './tenant-settings.ts'

/** Tenants that the storage keeps; all of them are held in memory. */
const tenantsMax = 10_000
const pageRows = 1_000

/** Where the settings of a tenant come from; `unreadable` when what is stored is none, and never was while this ran. */
export const tenantSources = ['config', 'stored', 'unreadable', 'default'] as const
type TenantSource = (typeof tenantSources)[number]
export type KnownTenant = {
  name: string
  source: TenantSource
  settings: TenantSettings
  row: TenantRow | null
}

/**
 * What is known of each tenant: the configuration first, then what was stored by `autoglm tenant`, then the tenant
 * `default`. Looking up is a step in memory; changes in the storage are followed. Of stored settings that can't be read
 * the last ones that could be hold on; without any, the tenant is closed: it must not get away with no limits.
 */
export class TenantBook {
  readonly #access: AccessStore
  readonly #watch: AccessWatch
  readonly #clock: Clock
  readonly #log: Logger
  readonly #configured: () => Config['tenants']
  #stored: ReadonlyMap<string, { row: TenantRow; settings: TenantSettings }> = new Map()

  constructor(parts: {
    access: AccessStore
    watch: AccessWatch
    clock: Clock
    log: Logger
    configured: () => Config['tenants']
  }) {
    this.#access = parts.access
    this.#watch = parts.watch
    this.#clock = parts.clock
    this.#log = parts.log
    this.#configured = parts.configured
    this.#watch.listen({ tenants: () => this.#read() })
  }

  /** The settings in effect; the same object until they change. */
  of(name: string): TenantSettings {
    return this.#find(name) ?? this.#find('default') ?? plainTenant
  }

  /** How a tenant stands, whether or not anything is said of it. */
  show(name: string): KnownTenant {
    const stored = this.#stored.get(name)
    return { name, source: this.#sourceOf(name), settings: this.of(name), row: stored?.row ?? null }
  }

  /** All of whom something is said, by name. */
  list(): KnownTenant[] {
    const names = new Set([...Object.keys(this.#configured()), ...this.#stored.keys()])
    return [...names].sort().map((name) => this.show(name))
  }

  /**
   * Stores settings; what is left out is as by default. `version` is the one that was seen, 0 for a new tenant, null
   * for whatever is there. Throws conflict, also for a tenant of the configuration file.
   */
  async put(name: string, settings: Partial<TenantSettings>, version: number | null): Promise<KnownTenant> {
    this.#refuseConfigured(name)
    const row = { name, settings: JSON.stringify(settings), updatedAtMs: this.#clock.wallMs(), version }
    const outcome = await this.#access.putTenant(row, tenantsMax)
    if (outcome === null) {
      throw fail('conflict', { message: `The tenant has another version than ${version}; read it again.` })
    }
    if (outcome === 'full') throw fail('conflict', { message: `There are ${tenantsMax} tenants already.` })
    await this.#watch.refresh()
    return { name, source: 'stored', settings: fillSettings(settings) ?? plainTenant, row: outcome }
  }

  /** Forgets what was stored; false when nothing was. Its tasks, files and keys stay. */
  async remove(name: string): Promise<boolean> {
    this.#refuseConfigured(name)
    const removed = await this.#access.removeTenant(name)
    await this.#watch.refresh()
    return removed
  }

  #refuseConfigured(name: string): void {
    if (!this.#isConfigured(name)) return
    throw fail('conflict', {
      message: `The tenant \`${name}\` is set in the configuration file, and can be changed there alone.`,
    })
  }

  #sourceOf(name: string): TenantSource {
    if (this.#isConfigured(name)) return 'config'
    const stored = this.#stored.get(name)
    if (!stored) return 'default'
    return stored.settings === closedTenant ? 'unreadable' : 'stored'
  }

  #isConfigured(name: string): boolean {
    return Object.hasOwn(this.#configured(), name)
  }

  #find(name: string): TenantSettings | undefined {
    const configured = this.#configured()
    return Object.hasOwn(configured, name) ? configured[name] : this.#stored.get(name)?.settings
  }

  async #read(): Promise<void> {
    const found = new Map<string, { row: TenantRow; settings: TenantSettings }>()
    for (let after = '', pages = tenantsMax / pageRows; pages > 0; pages -= 1) {
      const rows = await this.#access.listTenants({ after, limit: pageRows })
      for (const row of rows) {
        // What did not change stays the object that it was: others may have bound something to it.
        const before = this.#stored.get(row.name)
        const isSame = before?.row.settings === row.settings
        const read = isSame ? before.settings : fillSettings(parse(row.settings))
        const settings = read ?? before?.settings ?? closedTenant
        found.set(row.name, { row, settings })
        if (read === null) this.#tellUnreadable(row.name, settings)
      }
      if (rows.length < pageRows) break
      after = rows.at(-1)!.name
    }
    this.#stored = found
  }

  #tellUnreadable(tenant: string, inEffect: TenantSettings): void {
    const then =
      inEffect === closedTenant ? 'nothing of it is let through' : 'those that could be read last hold on'
    this.#log.error(
      { tenant },
      `the settings that are stored of a tenant can not be read, ${then}; set them again with: autoglm tenant set`,
    )
  }
}

/** One row that is broken must not keep the changes of all others from being seen. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

/** Settings with their defaults; null for what are none. */
function fillSettings(given: unknown): TenantSettings | null {
  // A newer version may have stored what is not known here.
  const settings = Default(TenantEntry, Clean(TenantEntry, structuredClone(given)))
  return Check(TenantEntry, settings) ? settings : null
}
