import type { Clock } from '../../core/clock.ts'
import type { Service } from '../../core/service.ts'
import type { Wire } from '../../core/wire.ts'
import type { Instance } from '../instance.ts'
import type { Registry, RegistryEvent } from '../registry.ts'
import { shareEveryMs, type CountNews, type FleetEvent } from './fleet-events.ts'
import { PeerCounts } from './peer-counts.ts'
import { RestWatch, type ModelBreakers, type RestNews } from './rest-watch.ts'

/** Shows the fleet of this process to others, and brings together what each of them does with it. */
export class MirrorHost implements Service {
  readonly name = 'fleet host'
  readonly #registry: Registry
  readonly #clock: Clock
  readonly #rests: RestWatch
  readonly #instances = new Map<number, Instance>()
  readonly #numbers = new Map<Instance, number>()
  readonly #followers = new Map<Wire, PeerCounts>()
  #last = 0
  #stops: (() => void)[] = []

  constructor(parts: { registry: Registry; models: ModelBreakers; clock: Clock }) {
    this.#registry = parts.registry
    this.#clock = parts.clock
    this.#rests = new RestWatch(parts.models)
  }

  start(): Promise<void> {
    if (this.#stops.length > 0) return Promise.resolve()
    for (const instance of this.#registry.all) this.#number(instance)
    this.#stops = [
      this.#registry.watch((event) => this.#tell(event)),
      this.#clock.every(shareEveryMs, () => this.#share()),
    ]
    return Promise.resolve()
  }

  stop(): Promise<void> {
    for (const stop of this.#stops.splice(0)) stop()
    return Promise.resolve()
  }

  /** Takes in a process. What it had under way is forgotten as soon as its wire closes. */
  attach(wire: Wire): void {
    const counts = new PeerCounts()
    wire.on('follow-fleet', () => {
      this.#followers.set(wire, counts)
      wire.tell('fleet', [...this.#instances].map(describeAdded))
      wire.tell('rests', this.#rests.readAll(this.#instances, this.#clock.now()))
    })
    wire.on('counts', (news: CountNews[]) => {
      for (const [number, inFlight, waitingBytes] of news) {
        const instance = this.#instances.get(number)
        if (instance) counts.apply(instance, inFlight, waitingBytes)
      }
    })
    wire.on('rests', (news: RestNews[]) => {
      const nowMs = this.#clock.now()
      for (const item of news) this.#rests.apply(item, (number) => this.#instances.get(number), nowMs)
      for (const other of this.#followers.keys()) if (other !== wire) other.tell('rests', news)
    })
    void wire.closed.then(() => {
      this.#followers.delete(wire)
      counts.clear()
    })
  }

  #share(): void {
    for (const [wire, counts] of this.#followers) {
      if (wire.isCongested) continue
      const news = counts.readNews(this.#instances)
      if (news.length > 0) wire.tell('counts', news)
    }
    const rests = this.#rests.readNews(this.#instances, this.#clock.now())
    if (rests.length > 0) this.#broadcast('rests', rests)
  }

  #tell(event: RegistryEvent): void {
    const { instance } = event
    if (event.type === 'added') {
      const number = this.#number(instance)
      this.#broadcast('fleet', [describeAdded([number, instance])])
      return
    }
    const number = this.#numbers.get(instance)
    if (number === undefined) return
    if (event.type === 'removed') {
      this.#numbers.delete(instance)
      this.#instances.delete(number)
      for (const counts of this.#followers.values()) counts.forget(instance)
    }
    this.#broadcast('fleet', [describe(event, number)])
  }

  #number(instance: Instance): number {
    this.#last += 1
    this.#numbers.set(instance, this.#last)
    this.#instances.set(this.#last, instance)
    return this.#last
  }

  #broadcast(name: string, body: readonly unknown[]): void {
    for (const wire of this.#followers.keys()) wire.tell(name, body)
  }
}

const describeAdded = ([number, instance]: readonly [number, Instance]): FleetEvent => ({
  type: 'added',
  number,
  spec: instance.spec,
  state: instance.state,
})

function describe(event: RegistryEvent, number: number): FleetEvent {
  if (event.type === 'moved') return { type: 'moved', number, from: event.from, to: event.to }
  if (event.type === 'removed') return { type: 'removed', number }
  return { type: 'changed', number, spec: event.instance.spec }
}
