import type { LimitSettings } from '../../config/schema.ts'
import { makeRule, type Rule } from './bucket.ts'
import type { Meter, Meters, Slots } from './meter.ts'

/** Whose requests a limit counts together. */
export type ScopeKind = 'tenant' | 'key' | 'tenant_model' | 'model'

/** All that is limited for one of them: requests a minute, tokens a minute, requests at once. */
export class Scope {
  readonly kind: ScopeKind
  readonly key: string
  /** As a sentence names it. */
  readonly title: string
  readonly slots: Slots
  requests: Meter | null = null
  tokens: Meter | null = null
  #settings: LimitSettings
  #burstMs: number
  readonly #meters: Meters

  constructor(
    name: { kind: ScopeKind; key: string; title: string },
    settings: LimitSettings,
    { meters, burstMs, nowMs }: { meters: Meters; burstMs: number; nowMs: number },
  ) {
    this.kind = name.kind
    this.key = name.key
    this.title = name.title
    this.#meters = meters
    this.slots = meters.makeSlots(`${name.key}/c`, settings.concurrentMax)
    this.#settings = settings
    this.#burstMs = burstMs
    this.#configure(nowMs)
  }

  get settings(): LimitSettings {
    return this.#settings
  }

  /** Takes over other limits; what was used stays used. The same ones cost a comparison. */
  configure(settings: LimitSettings, burstMs: number, nowMs: number): void {
    if (settings === this.#settings && burstMs === this.#burstMs) return
    this.#settings = settings
    this.#burstMs = burstMs
    this.#configure(nowMs)
  }

  /** True when forgetting it changes nothing. */
  isIdle(nowMs: number): boolean {
    return this.slots.isIdle(nowMs) && isIdle(this.requests, nowMs) && isIdle(this.tokens, nowMs)
  }

  /** It will not be used any more. */
  forget(): void {
    this.slots.forget()
    this.requests?.forget()
    this.tokens?.forget()
  }

  #configure(nowMs: number): void {
    const { requestsPerMinute, tokensPerMinute, concurrentMax } = this.#settings
    this.slots.configure(concurrentMax)
    this.requests = this.#meter(this.requests, 'r', requestsPerMinute, nowMs)
    this.tokens = this.#meter(this.tokens, 't', tokensPerMinute, nowMs)
  }

  #meter(meter: Meter | null, suffix: string, perMinute: number, nowMs: number): Meter | null {
    if (perMinute === 0) {
      meter?.forget()
      return null
    }
    const rule = makeRule(perMinute, this.#burstMs)
    if (meter === null) return this.#meters.makeMeter(`${this.key}/${suffix}`, rule, nowMs)
    if (!isSame(meter.rule, rule)) meter.configure(rule, nowMs)
    return meter
  }
}

const isIdle = (meter: Meter | null, nowMs: number): boolean => meter === null || meter.isIdle(nowMs)

const isSame = (one: Rule, other: Rule): boolean => one.rate === other.rate && one.capacity === other.capacity

/** Whether these limits limit anything. */
export const isLimited = (settings: LimitSettings): boolean =>
  settings.requestsPerMinute !== 0 || settings.tokensPerMinute !== 0 || settings.concurrentMax !== 0
