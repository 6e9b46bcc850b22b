import type { LimitSettings, TenantSettings } from '../../config/schema.ts'
import { fail } from '../../core/errors.ts'
import type { Caller } from '../auth/caller.ts'
import type { Meters } from './meter.ts'
import { isLimited, Scope, type ScopeKind } from './scope.ts'

export type ScopeQuery = { caller: Caller; settings: TenantSettings; model: string }
export type ModelLimits = Readonly<Record<string, LimitSettings>>

/** Scopes that are kept. One of them is a few hundred bytes. */
const scopesMaxDefault = 65_536
/** How many are looked at for room, at one request. */
const looksMax = 64

/** A scope, and whether it was used since it was last looked at for room. */
type Entry = { readonly scope: Scope; readonly place: Place; isUsed: boolean }
/** What a scope is found by: `name` is a key's id or a model. */
type Place = { readonly kind: ScopeKind; readonly tenant: string; readonly name: string }
/** What is known of one tenant. */
type TenantEntries = { own: Entry | null; keys: Map<string, Entry> | null; models: Map<string, Entry> | null }

/** The limits of this tenant on this model, or of all tenants on it; null for none. */
const readModel = (limits: ModelLimits, model: string): LimitSettings | null => {
  if (!Object.hasOwn(limits, model)) return null
  const found = limits[model] as LimitSettings
  return isLimited(found) ? found : null
}

/** Whether nothing limits this request: the cheapest question, for it is asked of every one. */
export const isUnlimited = ({ caller, settings, model }: ScopeQuery, models: ModelLimits): boolean =>
  !isLimited(settings) &&
  (caller.limits === null || !isLimited(caller.limits)) &&
  readModel(settings.modelLimits, model) === null &&
  readModel(models, model) === null

const none: readonly Scope[] = []

/**
 * The scopes that have been seen, a bounded number of them. A scope that counts something is never forgotten, or a fresh
 * and full one would take its place: where all of them count, newcomers are refused.
 *
 * Who is to go for a newcomer is looked for where the last look ended, and one that was used since then is spared once
 * (second chance). A use is a mark: moving the scope to the end of a large map would cost more than all the rest.
 */
export class ScopeBook {
  readonly #meters: Meters
  readonly #scopesMax: number
  readonly #tenants = new Map<string, TenantEntries>()
  readonly #models = new Map<string, Entry>()
  /** All of them, in no order. */
  readonly #ring: Entry[] = []
  /** Where the next look for room begins. */
  #hand = 0

  constructor(meters: Meters, scopesMax = scopesMaxDefault) {
    this.#meters = meters
    this.#scopesMax = scopesMax
  }

  get size(): number {
    return this.#ring.length
  }

  /** What limits this request, the widest last. Throws overloaded when there is no room for another scope. */
  find(
    { caller, settings, model }: ScopeQuery,
    models: ModelLimits,
    burstMs: number,
    nowMs: number,
  ): readonly Scope[] {
    const ofKey = caller.limits !== null && isLimited(caller.limits) ? caller.limits : null
    const ofPair = readModel(settings.modelLimits, model)
    const ofTenant = isLimited(settings) ? settings : null
    const ofModel = readModel(models, model)
    if (ofKey === null && ofPair === null && ofTenant === null && ofModel === null) return none
    const { tenant } = caller
    const known = this.#tenants.get(tenant)
    const found: Scope[] = []
    const use = (entry: Entry | null | undefined, kind: ScopeKind, name: string, limits: LimitSettings) => {
      if (entry) {
        entry.isUsed = true
        entry.scope.configure(limits, burstMs, nowMs)
        found.push(entry.scope)
      } else found.push(this.#add({ kind, tenant, name }, limits, burstMs, nowMs, found))
    }
    if (ofKey !== null) {
      const id = caller.keyId ?? caller.name ?? ''
      use(known?.keys?.get(id), 'key', id, ofKey)
    }
    if (ofPair !== null) use(known?.models?.get(model), 'tenant_model', model, ofPair)
    if (ofTenant !== null) use(known?.own, 'tenant', '', ofTenant)
    if (ofModel !== null) use(this.#models.get(model), 'model', model, ofModel)
    return found
  }

  /** `found` is what the same request needs beside it. */
  #add(
    place: Place,
    settings: LimitSettings,
    burstMs: number,
    nowMs: number,
    found: readonly Scope[],
  ): Scope {
    const at = this.#ring.length < this.#scopesMax ? this.#ring.length : this.#makeRoom(found, nowMs)
    const { kind } = place
    const name = { kind, key: writeKey[kind](place), title: titles[kind](place) }
    const scope = new Scope(name, settings, { meters: this.#meters, burstMs, nowMs })
    const entry = { scope, place, isUsed: false }
    this.#ring[at] = entry
    this.#put(place, entry)
    return scope
  }

  #put({ kind, tenant, name }: Place, entry: Entry): void {
    if (kind === 'model') {
      this.#models.set(name, entry)
      return
    }
    let entries = this.#tenants.get(tenant)
    if (entries === undefined) {
      entries = { own: null, keys: null, models: null }
      this.#tenants.set(tenant, entries)
    }
    if (kind === 'tenant') entries.own = entry
    else if (kind === 'key') (entries.keys ??= new Map()).set(name, entry)
    else (entries.models ??= new Map()).set(name, entry)
  }

  /** Where in the ring there is room now. */
  #makeRoom(found: readonly Scope[], nowMs: number): number {
    let spare: number | null = null
    for (let looks = Math.min(looksMax, this.#ring.length); looks > 0; looks -= 1) {
      const at = this.#hand
      this.#hand = at + 1 < this.#ring.length ? at + 1 : 0
      const entry = this.#ring[at] as Entry
      if (!entry.scope.isIdle(nowMs) || found.includes(entry.scope)) continue
      if (!entry.isUsed) return this.#forget(at)
      entry.isUsed = false
      spare ??= at
    }
    if (spare !== null) return this.#forget(spare)
    throw fail('overloaded', {
      message: `This server counts the limits of ${this.#scopesMax} tenants, keys and models now, and has no room for another; try again in a second.`,
      retryAfterMs: 1_000,
    })
  }

  /** It stays in the ring until another takes its place there. */
  #forget(at: number): number {
    const { scope, place } = this.#ring[at] as Entry
    const { kind, tenant, name } = place
    scope.forget()
    if (kind === 'model') {
      this.#models.delete(name)
      return at
    }
    const entries = this.#tenants.get(tenant) as TenantEntries
    if (kind === 'tenant') entries.own = null
    else if (kind === 'key') entries.keys = without(entries.keys, name)
    else entries.models = without(entries.models, name)
    if (entries.own === null && entries.keys === null && entries.models === null) this.#tenants.delete(tenant)
    return at
  }
}

function without(entries: Map<string, Entry> | null, name: string): Map<string, Entry> | null {
  entries?.delete(name)
  return entries?.size === 0 ? null : entries
}

/** By which an authority knows it. */
const writeKey: Record<ScopeKind, (place: Place) => string> = {
  key: ({ tenant, name }) => `k/${tenant}/${name}`,
  tenant: ({ tenant }) => `t/${tenant}`,
  tenant_model: ({ tenant, name }) => `x/${tenant}/${name}`,
  model: ({ name }) => `m/${name}`,
}

const titles: Record<ScopeKind, (place: Place) => string> = {
  key: () => 'This key',
  tenant: ({ tenant }) => `The tenant ${tenant}`,
  tenant_model: ({ name }) => `Your tenant on the model ${name}`,
  model: ({ name }) => `The model ${name}, for all tenants together,`,
}
