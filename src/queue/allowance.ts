import type { Clock } from '../core/clock.ts'
import type { Breaker } from '../fleet/breaker.ts'
import type { Instance, InstanceSpec } from '../fleet/instance.ts'
import type { LiveBook } from './live-signals.ts'
import { groupPools, type Pool } from './pools.ts'
import { lookAtValley, newValley, type ValleyState } from './valley.ts'

/** What is looked at in an instance. */
export type FleetMember = Pick<
  Instance,
  'state' | 'ejectedUntilMs' | 'busyUntilMs' | 'slots' | 'inFlight'
> & {
  spec: Pick<InstanceSpec, 'models'>
  breaker?: Pick<Breaker, 'allows'>
}

/** How many tasks may run beside live requests, for each pool of instances. */
export class Allowance {
  readonly #registry: { readonly all: readonly FleetMember[] }
  readonly #live: Pick<LiveBook, 'look'>
  readonly #clock: Clock
  readonly #reserve: () => number
  readonly #states = new Map<string, ValleyState>()
  #pools = new Map<string, Pool>()
  #tasksMax = new Map<string, number>()

  constructor(parts: {
    registry: { readonly all: readonly FleetMember[] }
    live: Pick<LiveBook, 'look'>
    clock: Clock
    reserve: () => number
  }) {
    this.#registry = parts.registry
    this.#live = parts.live
    this.#clock = parts.clock
    this.#reserve = parts.reserve
  }

  /** Looks at fleet and live requests again. `running` are the tasks of this process by model. */
  look(running: ReadonlyMap<string, number>): void {
    const nowMs = this.#clock.now()
    this.#pools = groupPools(
      this.#registry.all.map((instance) => ({
        models: [...instance.spec.models.keys()],
        slots: instance.slots,
        inFlight: instance.inFlight,
        // Full is not away: an instance with no room counts with what it works on.
        available: isUp(instance, nowMs),
      })),
    )
    this.#tasksMax = new Map()
    for (const pool of new Set(this.#pools.values())) {
      const name = pool.models[0] as string
      const state = this.#states.get(name) ?? newValley(nowMs)
      const liveInFlight = Math.max(0, pool.inFlight - tasksIn(pool, running))
      const sight = { nowMs, capacity: pool.capacity, liveInFlight, live: this.#live.look(pool.models) }
      const next = lookAtValley(state, sight, { reserve: this.#reserve() })
      this.#states.set(name, next.state)
      this.#tasksMax.set(name, next.tasksMax)
    }
    // A pool that is gone leaves nothing behind.
    for (const name of this.#states.keys()) if (!this.#tasksMax.has(name)) this.#states.delete(name)
  }

  /** How many more tasks of a model may begin, as of the last look; 0 for a model that no instance serves. */
  free(model: string, running: ReadonlyMap<string, number>): number {
    const pool = this.#pools.get(model)
    if (!pool) return 0
    return Math.max(0, (this.#tasksMax.get(pool.models[0] as string) ?? 0) - tasksIn(pool, running))
  }

  /** By the name of the pool. */
  get tasksMax(): ReadonlyMap<string, number> {
    return this.#tasksMax
  }
}

const isUp = (instance: FleetMember, nowMs: number): boolean =>
  instance.state === 'ready' &&
  nowMs >= instance.ejectedUntilMs &&
  nowMs >= instance.busyUntilMs &&
  instance.breaker?.allows(nowMs) !== false

function tasksIn({ models }: Pool, running: ReadonlyMap<string, number>): number {
  let tasks = 0
  for (const model of models) tasks += running.get(model) ?? 0
  return tasks
}
