import type { Clock } from '../core/clock.ts'
import { StoreUnavailable } from '../storage/store.ts'
import type { TaskStore } from '../storage/task-store.ts'
import type { Logger } from '../telemetry/log.ts'
import type { TaskRun } from './task-run.ts'

/**
 * Keeps the leases of the tasks that run here, all in one write, and learns from it which of them were cancelled or
 * given to somebody else. A lease that can't be renewed because the store is away is kept in mind as it is: the fence
 * of the attempt decides later, not the clock.
 */
export class LeaseKeeper {
  readonly #tasks: Pick<TaskStore, 'renew'>
  readonly #clock: Clock
  readonly #log: Logger
  readonly #leaseMs: () => number
  readonly #runs: ReadonlyMap<string, TaskRun>
  #renewing = false
  #isAway = false

  constructor(parts: {
    tasks: Pick<TaskStore, 'renew'>
    clock: Clock
    log: Logger
    leaseMs: () => number
    runs: ReadonlyMap<string, TaskRun>
  }) {
    this.#tasks = parts.tasks
    this.#clock = parts.clock
    this.#log = parts.log
    this.#leaseMs = parts.leaseMs
    this.#runs = parts.runs
  }

  /** Looks after all of them. A round that takes longer than the time to the next is not joined by another. */
  async renewAll(): Promise<void> {
    if (this.#renewing || this.#runs.size === 0) return
    this.#renewing = true
    try {
      await this.#renew([...this.#runs.values()])
    } finally {
      this.#renewing = false
    }
  }

  /** Looks at one, at once: somebody has just cancelled it, they say. */
  async renewOne(id: string): Promise<void> {
    const run = this.#runs.get(id)
    if (run) await this.#renew([run])
  }

  async #renew(runs: readonly TaskRun[]): Promise<void> {
    const leases = runs.map(({ task }) => ({ id: task.id, attempt: task.attempt }))
    try {
      const states = await this.#tasks.renew(leases, this.#clock.wallMs() + this.#leaseMs())
      this.#isAway = false
      for (const [index, run] of runs.entries()) {
        const state = states[index]
        if (state === 'lost' || state === 'cancelled') run.end(state)
      }
    } catch (thrown) {
      if (!(thrown instanceof StoreUnavailable)) this.#log.error({ err: thrown }, 'renewing leases failed')
      else if (!this.#isAway)
        this.#log.warn({ reason: thrown.message }, 'leases can not be renewed: the storage is away')
      this.#isAway = thrown instanceof StoreUnavailable
    }
  }
}
