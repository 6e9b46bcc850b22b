import type { Instance } from '../instance.ts'
import type { CountNews, Counts } from './fleet-events.ts'

/**
 * What one other process has under way on the instances that this one keeps. It is part of the instances' counts here
 * until the process tells another number, or is gone.
 */
export class TheirCounts {
  readonly #theirs = new Map<Instance, Counts>()
  readonly #told = new Map<Instance, Counts>()

  /** Takes in what the process tells of its own. */
  apply(instance: Instance, inFlight: number, waitingBytes: number): void {
    const before = this.#theirs.get(instance)
    instance.inFlight += inFlight - (before?.inFlight ?? 0)
    instance.waitingBytes += waitingBytes - (before?.waitingBytes ?? 0)
    this.#theirs.set(instance, { inFlight, waitingBytes })
  }

  /** What the process is to be told: all that is under way without it, where that has changed. */
  readNews(instances: Iterable<readonly [number, Instance]>): CountNews[] {
    const news: CountNews[] = []
    for (const [number, instance] of instances) {
      const own = this.#theirs.get(instance)
      const told = this.#told.get(instance)
      const inFlight = instance.inFlight - (own?.inFlight ?? 0)
      const waitingBytes = instance.waitingBytes - (own?.waitingBytes ?? 0)
      if (inFlight === (told?.inFlight ?? 0) && waitingBytes === (told?.waitingBytes ?? 0)) continue
      this.#told.set(instance, { inFlight, waitingBytes })
      news.push([number, inFlight, waitingBytes])
    }
    return news
  }

  /** An instance has left the fleet. */
  forget(instance: Instance): void {
    this.#theirs.delete(instance)
    this.#told.delete(instance)
  }

  /** The process is gone, and with it all that it had under way. */
  clear(): void {
    for (const [instance, { inFlight, waitingBytes }] of this.#theirs) {
      instance.inFlight -= inFlight
      instance.waitingBytes -= waitingBytes
    }
    this.#theirs.clear()
    this.#told.clear()
  }
}
