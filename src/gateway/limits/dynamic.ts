import type { LiveSight } from '../../queue/live-signals.ts'
import type { ServiceTier } from '../../router/calls/completion-call.ts'

/** How the fleet fares, as far as live requests feel it. */
export type FleetHealth = {
  live: Pick<LiveSight, 'slowdown' | 'crowding' | 'seenAtMs'>
  /** Share of recent answers that failed by no fault of the caller; null while there are too few. */
  errorShare: number | null
}

/** By what every rate is multiplied, by tier. */
export type Shares = Readonly<Record<ServiceTier, number>>
export type DynamicState = { readonly shares: Shares; readonly backedOffAtMs: number }

type Pressure = { slowdown: number; crowding: number; errorShare: number }

/** From where on a tier is slowed, and by how much at once: interactive classes feel it last and least. */
export const dynamicRules = {
  tiers: {
    flex: { above: { slowdown: 1.5, crowding: 2, errorShare: 0.05 }, factor: 0.7 },
    default: { above: { slowdown: 2, crowding: 3, errorShare: 0.1 }, factor: 0.8 },
    priority: { above: { slowdown: 3, crowding: 5, errorShare: 0.25 }, factor: 0.9 },
  },
  /** Below this, rates recover; between this and the first tier's threshold they stay. */
  calm: { slowdown: 1.25, crowding: 1.5, errorShare: 0.02 },
  /** Below this there is room for more than was promised. */
  valley: { slowdown: 1.1, crowding: 0.75, errorShare: 0.01 },
  /** Until the effect of one step down is to be seen, no other follows. */
  backOffPauseMs: 1_000,
  /** What is added at each look, a step down being a matter of seconds and the way back one of a minute. */
  step: { flex: 0.01, default: 0.015, priority: 0.02 },
  /** Nobody has asked for so long: what was measured then says nothing of now. */
  idleMs: 10_000,
} as const

export const steadyState: DynamicState = {
  shares: { flex: 1, default: 1, priority: 1 },
  backedOffAtMs: -Infinity,
}

/** The tiers from the first to be slowed to the last. */
const order = ['flex', 'default', 'priority'] as const satisfies readonly ServiceTier[]

/**
 * The multipliers after one more look, as TCP has it: down by a factor when live requests suffer, up by a little while
 * they do not. A tier is slowed only when those below it are at the floor, and none stands above a higher one.
 */
export function lookAtFleet(
  state: DynamicState,
  { live, errorShare }: FleetHealth,
  { floor, ceiling, nowMs }: { floor: number; ceiling: number; nowMs: number },
): DynamicState {
  const isIdle = nowMs - live.seenAtMs > dynamicRules.idleMs
  const pressure: Pressure = {
    slowdown: isIdle ? 0 : (live.slowdown ?? 0),
    crowding: isIdle ? 0 : (live.crowding ?? 0),
    errorShare: isIdle ? 0 : (errorShare ?? 0),
  }
  const pressed = findPressed(state.shares, pressure, floor)
  if (pressed !== null) {
    if (nowMs - state.backedOffAtMs < dynamicRules.backOffPauseMs) return state
    const lowered = Math.min(1, state.shares[pressed]) * dynamicRules.tiers[pressed].factor
    const shares = { ...state.shares, [pressed]: Math.max(floor, lowered) }
    return { shares: inOrder(shares, floor, ceiling), backedOffAtMs: nowMs }
  }
  if (isAbove(pressure, dynamicRules.calm)) {
    // Neither well nor unwell: what was given beyond the promise goes first.
    return { ...state, shares: inOrder(towards(state.shares, 1, 'down'), floor, ceiling) }
  }
  const target = isAbove(pressure, dynamicRules.valley) ? 1 : ceiling
  const shares = towards(towards(state.shares, target, 'up'), target, 'down')
  return { ...state, shares: inOrder(shares, floor, ceiling) }
}

/** The lowest tier that is to be slowed now: one that suffers enough and is not at the floor yet. */
function findPressed(shares: Shares, pressure: Pressure, floor: number): ServiceTier | null {
  for (const tier of order) {
    if (!isAbove(pressure, dynamicRules.tiers[tier].above)) return null
    if (shares[tier] > floor) return tier
  }
  return null
}

const isAbove = (pressure: Pressure, bounds: Pressure): boolean =>
  pressure.slowdown > bounds.slowdown ||
  pressure.crowding > bounds.crowding ||
  pressure.errorShare > bounds.errorShare

function towards(shares: Shares, target: number, direction: 'up' | 'down'): Shares {
  const move = (tier: ServiceTier) => {
    const share = shares[tier]
    const step = dynamicRules.step[tier]
    if (direction === 'up') return share < target ? Math.min(target, share + step) : share
    return share > target ? Math.max(target, share - step) : share
  }
  return { flex: move('flex'), default: move('default'), priority: move('priority') }
}

function inOrder(shares: Shares, floor: number, ceiling: number): Shares {
  const clamp = (share: number) => Math.min(ceiling, Math.max(floor, share))
  const priority = clamp(shares.priority)
  const middle = Math.min(priority, clamp(shares.default))
  return { priority, default: middle, flex: Math.min(middle, clamp(shares.flex)) }
}
