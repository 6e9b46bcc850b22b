import type { Clock } from '../core/clock.ts'
import { Batcher } from '../storage/batcher.ts'
import { StoreUnavailable } from '../storage/store.ts'
import type { SettleOutcome, Settlement, TaskStore } from '../storage/task-store.ts'

const batchMax = 256
/** Each one waiting holds the place of a running task, so this is never reached. */
const waitingMax = 20_000
const retryMs = { first: 100, max: 5_000 } as const

/**
 * Runs `act` until the store takes it. While it is away nobody else can take the task over either, so there is no use
 * in giving up before `signal` says so.
 */
export async function untilStored<T>(act: () => Promise<T>, clock: Clock, signal: AbortSignal): Promise<T> {
  for (let delayMs: number = retryMs.first; ; delayMs = Math.min(delayMs * 2, retryMs.max)) {
    try {
      return await act()
    } catch (thrown) {
      if (!(thrown instanceof StoreUnavailable) || signal.aborted) throw thrown
      await clock.sleep(delayMs, signal)
    }
  }
}

/** Writes down how attempts ended: those that end together are settled together. */
export class Settler {
  readonly #tasks: Pick<TaskStore, 'settle'>
  readonly #clock: Clock
  readonly #batcher: Batcher<Settlement, SettleOutcome>

  constructor(parts: { tasks: Pick<TaskStore, 'settle'>; clock: Clock }) {
    this.#tasks = parts.tasks
    this.#clock = parts.clock
    this.#batcher = new Batcher({ run: (batch) => this.#settleAll(batch), batchMax, waitingMax })
  }

  /** Resolves when it is on disk, or refused for good. Throws when `signal` ends the waiting, or on a fault. */
  async settle(settlement: Settlement, signal: AbortSignal): Promise<SettleOutcome> {
    return untilStored(() => this.#batcher.add(settlement), this.#clock, signal)
  }

  async #settleAll(batch: Settlement[]): Promise<SettleOutcome[]> {
    try {
      return await this.#tasks.settle(batch)
    } catch (thrown) {
      if (thrown instanceof StoreUnavailable || batch.length === 1) throw thrown
    }
    // One that the store can't take must not take the others with it.
    const settled = await Promise.allSettled(batch.map((settlement) => this.#tasks.settle([settlement])))
    const failed = settled.find((one) => one.status === 'rejected')
    if (failed && settled.every((one) => one.status === 'rejected')) throw failed.reason
    return settled.map((one) =>
      one.status === 'fulfilled' ? (one.value[0] as SettleOutcome) : { kind: 'lost' },
    )
  }
}
