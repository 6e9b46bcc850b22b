import type { LiveSight } from './live-signals.ts'

export type ValleySight = {
  /** Monotonic milliseconds. */
  nowMs: number
  /** Calls that the instances available now work on at once. */
  capacity: number
  /** Slots that live requests take. */
  liveInFlight: number
  live: Pick<LiveSight, 'slowdown' | 'crowding' | 'seenAtMs'>
}

export type ValleyState = {
  /** How many tasks may run as far as live latency is concerned; a fraction, so that slow growth adds up. */
  window: number
  lookedAtMs: number
  backedOffAtMs: number
}

export const valleyRules = {
  /** Live answers that begin so much later than usual say that tasks are in the way. */
  slowdownMax: 1.25,
  /** So do so many times as many waiting requests as usual. */
  crowdingMax: 2,
  /** What is left of the window after one of these. */
  backOff: 0.5,
  /** The window stays above this share of the capacity: about one task an instance costs nobody anything. */
  floor: 0.04,
  /** Until the effect of one is to be seen, no other follows. */
  backOffPauseMs: 1_000,
  /** Growth of the window in a second, as a share of the capacity. */
  growth: 0.02,
  /** The same when no live request has been seen for a while: nobody is there to feel it. */
  idleGrowth: 0.5,
  idleMs: 10_000,
} as const

export const newValley = (nowMs: number): ValleyState => ({
  window: 0,
  lookedAtMs: nowMs,
  backedOffAtMs: -Infinity,
})

/**
 * How many tasks may run now. Two limits, of which the lower one holds:
 *
 * - Room: tasks and live requests together leave `reserve` of the slots free, so a live request that comes finds one.
 * - The window, as TCP has it: it grows by a little every second, and is halved when live requests begin to feel it.
 *   Live latency itself says when; where tasks don't hurt, they get all the room there is.
 *
 * With no live request under way one task may always run, however small the fleet or large the reserve, and while
 * there is room at all the window leaves one: what waits at the very end still moves.
 */
export function lookAtValley(
  state: ValleyState,
  sight: ValleySight,
  { reserve }: { reserve: number },
): { state: ValleyState; tasksMax: number } {
  const room = findRoom(sight, reserve)
  const next = moveWindow(state, sight, { reserve })
  return { state: next, tasksMax: Math.min(room, Math.max(1, Math.floor(next.window))) }
}

function findRoom({ capacity, liveInFlight }: ValleySight, reserve: number): number {
  if (capacity < 1) return 0
  const shared = Math.floor(capacity * (1 - reserve) + 1e-9)
  return Math.max(liveInFlight === 0 ? 1 : 0, shared - liveInFlight)
}

function moveWindow(state: ValleyState, sight: ValleySight, { reserve }: { reserve: number }): ValleyState {
  const { nowMs, capacity, live } = sight
  const rules = valleyRules
  const windowMax = Math.max(1, capacity * (1 - reserve))
  const isPressed = (live.slowdown ?? 0) > rules.slowdownMax || (live.crowding ?? 0) > rules.crowdingMax
  const isIdle = nowMs - live.seenAtMs > rules.idleMs
  if (isPressed && !isIdle) {
    if (nowMs - state.backedOffAtMs < rules.backOffPauseMs) return { ...state, lookedAtMs: nowMs }
    return {
      window: Math.max(1, capacity * rules.floor, Math.min(state.window, windowMax) * rules.backOff),
      lookedAtMs: nowMs,
      backedOffAtMs: nowMs,
    }
  }
  // After a long pause of the process, growth starts from where it was: nobody has looked meanwhile.
  const passedS = Math.min(1, Math.max(0, nowMs - state.lookedAtMs) / 1000)
  const grown = state.window + capacity * (isIdle ? rules.idleGrowth : rules.growth) * passedS
  const window = Math.min(windowMax, Math.max(capacity * rules.floor, grown))
  return { ...state, window, lookedAtMs: nowMs }
}
