import type { Clock } from '../../core/clock.ts'
import type { Service } from '../../core/service.ts'
import type { Wire } from '../../core/wire.ts'
import { Instance } from '../instance.ts'
import { forgive } from '../outlier.ts'
import { Registry } from '../registry.ts'
import { Connections, type TransportLimits } from '../transport.ts'
import { shareEveryMs, type CountNews, type FleetEvent } from './fleet-events.ts'
import { PeerCounts } from './peer-counts.ts'
import { RestWatch, type ModelBreakers, type RestNews } from './rest-watch.ts'

/**
 * The fleet of a process that launches and probes nothing: the instances of another one, with connections of its own.
 * What is under way here is told there and what is under way elsewhere comes back, and so with what rests.
 */
export class MirrorFleet implements Service {
  readonly name = 'fleet mirror'
  readonly registry = new Registry()
  readonly #wire: Wire
  readonly #clock: Clock
  readonly #limits: () => TransportLimits
  readonly #instances = new Map<number, Instance>()
  readonly #counts = new PeerCounts()
  #rests: RestWatch | null = null
  #stopSharing: (() => void) | null = null

  constructor(parts: { wire: Wire; clock: Clock; limits: () => TransportLimits }) {
    this.#wire = parts.wire
    this.#clock = parts.clock
    this.#limits = parts.limits
    this.#wire.on('fleet', (events: FleetEvent[]) => {
      for (const event of events) this.#apply(event)
    })
    this.#wire.on('counts', (news: CountNews[]) => {
      for (const [number, inFlight, waitingBytes] of news) {
        const instance = this.#instances.get(number)
        if (instance) this.#counts.apply(instance, inFlight, waitingBytes)
      }
    })
    this.#wire.on('rests', (news: RestNews[]) => {
      const nowMs = this.#clock.now()
      for (const item of news) this.#rests?.apply(item, (number) => this.#instances.get(number), nowMs)
    })
  }

  /** The breakers of the router above, which is made after this. */
  watchModels(models: ModelBreakers): void {
    this.#rests = new RestWatch(models)
  }

  /** Asks for the fleet as it is, and follows it from then on. */
  async start(): Promise<void> {
    this.#stopSharing ??= this.#clock.every(shareEveryMs, () => this.#share())
    await this.#wire.ask('follow-fleet', null)
  }

  async stop(): Promise<void> {
    this.#stopSharing?.()
    this.#stopSharing = null
    await Promise.all(this.registry.all.map((instance) => instance.connections.close()))
  }

  #share(): void {
    if (this.#wire.isCongested) return
    const counts = this.#counts.readNews(this.#instances)
    if (counts.length > 0) this.#wire.tell('counts', counts)
    const rests = this.#rests?.readNews(this.#instances, this.#clock.now()) ?? []
    if (rests.length > 0) this.#wire.tell('rests', rests)
  }

  #apply(event: FleetEvent): void {
    if (event.type === 'added') {
      const { spec, state } = event
      const instance = new Instance(spec, new Connections(spec.endpoint, this.#limits()), state)
      this.#instances.set(event.number, instance)
      this.registry.add(instance)
      return
    }
    const instance = this.#instances.get(event.number)
    if (!instance) return
    if (event.type === 'changed') this.registry.change(instance, event.spec)
    else if (event.type === 'moved') {
      if (event.from === 'starting' && event.to === 'ready') forgive(instance)
      this.registry.move(instance, event.to)
    } else {
      this.#instances.delete(event.number)
      this.#counts.forget(instance)
      this.registry.remove(instance)
      void instance.connections.close()
    }
  }
}
