import { Create } from 'typebox/value'
import pino from 'pino'
import {
  TenantEntry,
  type Config,
  type LimitSettings,
  type TenantSettings,
} from '../../../src/config/schema.ts'
import type { Clock } from '../../../src/core/clock.ts'
import type { Caller } from '../../../src/gateway/auth/caller.ts'
import type { FleetHealth } from '../../../src/gateway/limits/dynamic.ts'
import { Limiter, type LimiterParts, type LimitRequest } from '../../../src/gateway/limits/limiter.ts'
import type { Pass } from '../../../src/gateway/limits/pass.ts'
import { LimitRefusal } from '../../../src/gateway/limits/refusal.ts'

export const silentLog = pino({ level: 'silent' })

const none: LimitSettings = { requestsPerMinute: 0, tokensPerMinute: 0, concurrentMax: 0 }
const plain: TenantSettings = Create(TenantEntry)

/** A clock that is some time ahead of another: no two machines agree. */
export const aheadOf = (clock: Clock, ms: number): Clock => ({
  now: () => clock.now() + ms,
  wallMs: () => clock.wallMs() + ms,
  sleep: (...args) => clock.sleep(...args),
  after: (...args) => clock.after(...args),
  every: (...args) => clock.every(...args),
})

export const limitsOf = (some: Partial<LimitSettings>): LimitSettings => ({ ...none, ...some })
export const tenantWith = (some: Partial<TenantSettings>): TenantSettings => ({ ...plain, ...some })

export const aCaller = (some: Partial<Caller> = {}): Caller => ({
  ...{ tenant: 'acme', keyId: null, name: null, roles: new Set(), limits: null },
  ...some,
})

export const aRequest = (some: Partial<LimitRequest> = {}): LimitRequest => ({
  ...{ caller: aCaller(), settings: plain, model: 'm', tier: 'default', tokens: 10 },
  ...some,
})

export const calmHealth: FleetHealth = {
  live: { slowdown: null, crowding: null, seenAtMs: -Infinity },
  errorShare: null,
}

export const limitSettings = (some: Partial<Config['limits']> = {}): Config['limits'] => ({
  ...{ burstMs: 60_000, models: {}, dynamic: false, floor: 0.25, ceiling: 1.25 },
  ...some,
})

export function makeLimiter(
  clock: Clock,
  limits: Partial<Config['limits']> = {},
  parts: Partial<LimiterParts> = {},
): Limiter {
  const settings = limitSettings(limits)
  return new Limiter({
    ...{ settings: () => settings, clock, log: silentLog, health: () => calmHealth, authority: null },
    ...parts,
  })
}

/** The pass, or how it was refused. */
export async function tryEnter(limiter: Limiter, request: LimitRequest): Promise<Pass | LimitRefusal> {
  try {
    return await limiter.enter(request)
  } catch (error) {
    if (error instanceof LimitRefusal) return error
    throw error
  }
}

export const isPass = (outcome: Pass | LimitRefusal): outcome is Pass => !(outcome instanceof LimitRefusal)

/** How many of so many requests in a row are let in. */
export async function countPasses(limiter: Limiter, request: LimitRequest, count: number): Promise<number> {
  let passes = 0
  for (let i = 0; i < count; i += 1) if (isPass(await tryEnter(limiter, request))) passes += 1
  return passes
}

/** What was let through, and when. */
export type Taken = { atMs: number; units: number }

/**
 * The largest excess of any interval over `capacity + rate * time`: zero or less when the promise holds. For any two
 * moments the sum between them is a difference of sums, so one pass over the events finds the worst.
 */
export function findExcess(
  taken: readonly Taken[],
  { capacity, rate }: { capacity: number; rate: number },
): number {
  let sum = 0
  let leastBefore = Infinity
  let worst = -Infinity
  for (const { atMs, units } of taken) {
    leastBefore = Math.min(leastBefore, sum - rate * atMs)
    sum += units
    worst = Math.max(worst, sum - rate * atMs - leastBefore - capacity)
  }
  return worst
}

/** A seed that is printed, so that a failure can be played again with SEED=…. */
export function drawSeed(): number {
  const seed = process.env['SEED'] === undefined ? Date.now() % 1e9 : Number(process.env['SEED'])
  console.log(`# seed ${seed}`)
  return seed
}

/** A small generator of random numbers that a seed starts. */
export function makeRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}
