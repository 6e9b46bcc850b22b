import type { Instance } from '../instance.ts'
import type { CountNews } from './fleet-events.ts'

type Counts = { inFlight: number; waitingBytes: number }
/** What the other side has under way, and what it was told of this one. */
type Entry = { theirs: Counts; told: Counts }

/**
 * What the other side of a wire has under way on instances that both know. It is part of the instances' counts here,
 * so that everything that looks at those sees the whole machine, and nothing is added up on the way of a request.
 */
export class PeerCounts {
  readonly #entries = new Map<Instance, Entry>()

  /** Takes in what the other side tells of its own. */
  apply(instance: Instance, inFlight: number, waitingBytes: number): void {
    const { theirs } = this.#of(instance)
    instance.inFlight += inFlight - theirs.inFlight
    instance.waitingBytes += waitingBytes - theirs.waitingBytes
    theirs.inFlight = inFlight
    theirs.waitingBytes = waitingBytes
  }

  /** What the other side is to be told: all that is under way without it, where that has changed. */
  readNews(instances: Iterable<readonly [number, Instance]>): CountNews[] {
    const news: CountNews[] = []
    for (const [number, instance] of instances) {
      const { theirs, told } = this.#of(instance)
      const inFlight = instance.inFlight - theirs.inFlight
      const waitingBytes = instance.waitingBytes - theirs.waitingBytes
      if (inFlight === told.inFlight && waitingBytes === told.waitingBytes) continue
      told.inFlight = inFlight
      told.waitingBytes = waitingBytes
      news.push([number, inFlight, waitingBytes])
    }
    return news
  }

  /** An instance has left the fleet. */
  forget(instance: Instance): void {
    this.#entries.delete(instance)
  }

  /** The other side is gone, and with it all that it had under way. */
  clear(): void {
    for (const [instance, { theirs }] of this.#entries) {
      instance.inFlight -= theirs.inFlight
      instance.waitingBytes -= theirs.waitingBytes
    }
    this.#entries.clear()
  }

  #of(instance: Instance): Entry {
    let entry = this.#entries.get(instance)
    if (!entry) {
      const none = () => ({ inFlight: 0, waitingBytes: 0 })
      this.#entries.set(instance, (entry = { theirs: none(), told: none() }))
    }
    return entry
  }
}
