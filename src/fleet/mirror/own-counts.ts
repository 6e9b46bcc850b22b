import type { Instance } from '../instance.ts'
import type { CountNews, Counts } from './fleet-events.ts'

type Entry = { elsewhere: Counts; told: Counts }

/**
 * What of an instance's counts is this process's own. `Instance.inFlight` is the sum over all processes, so that
 * everything that looks at it sees the whole machine, and nothing is added up on the way of a request.
 */
export class OwnCounts {
  readonly #entries = new WeakMap<Instance, Entry>()

  /** Own counts that are not what was told last. */
  readNews(instances: Iterable<readonly [number, Instance]>): CountNews[] {
    const news: CountNews[] = []
    for (const [number, instance] of instances) {
      const { elsewhere, told } = this.#of(instance)
      const inFlight = instance.inFlight - elsewhere.inFlight
      const waitingBytes = instance.waitingBytes - elsewhere.waitingBytes
      if (inFlight === told.inFlight && waitingBytes === told.waitingBytes) continue
      told.inFlight = inFlight
      told.waitingBytes = waitingBytes
      news.push([number, inFlight, waitingBytes])
    }
    return news
  }

  /** Takes in what all others have under way on an instance. */
  apply(instance: Instance, counts: Counts): void {
    const { elsewhere } = this.#of(instance)
    instance.inFlight += counts.inFlight - elsewhere.inFlight
    instance.waitingBytes += counts.waitingBytes - elsewhere.waitingBytes
    elsewhere.inFlight = counts.inFlight
    elsewhere.waitingBytes = counts.waitingBytes
  }

  #of(instance: Instance): Entry {
    let entry = this.#entries.get(instance)
    if (!entry) {
      const none = () => ({ inFlight: 0, waitingBytes: 0 })
      this.#entries.set(instance, (entry = { elsewhere: none(), told: none() }))
    }
    return entry
  }
}
