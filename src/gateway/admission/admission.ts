import type { CancelSignal } from '../../core/cancellation.ts'
import type { Clock } from '../../core/clock.ts'
import type { Service } from '../../core/service.ts'
import type { Call, Sink } from '../../router/call.ts'
import { Deadlines } from '../../router/deadlines.ts'
import type { MetricsRegistry } from '../../telemetry/metrics.ts'
import { AdmissionMetrics, type ModelSight } from './admission-metrics.ts'
import type { Capacity } from './capacity.ts'
import { ModelGate, type AdmissionSettings } from './model-gate.ts'
import type { Place } from './place.ts'

/** Far more than anybody serves: beyond it, one that is idle goes for each that comes. */
const modelsMax = 1_024
/** Doors that are looked at for each new one, and whether they are still needed. */
const looksMax = 16

/**
 * Lets no more live requests into the fleet than it answers in good time; the others wait for a moment, in order. It
 * watches nothing by itself: limits move with the requests that come and go.
 */
export class Admission implements Service {
  readonly name = 'admission'
  readonly #clock: Clock
  readonly #settings: () => AdmissionSettings
  readonly #capacityOf: (model: string) => Capacity
  readonly #isServed: (model: string) => boolean
  readonly #metrics: AdmissionMetrics
  /** One timer for all who wait. */
  readonly #deadlines: Deadlines
  readonly #gates = new Map<string, ModelGate>()
  /** Where the last look at some of them ended. */
  #next = this.#gates.entries()

  constructor(parts: {
    clock: Clock
    metrics: MetricsRegistry
    settings: () => AdmissionSettings
    /** What the instances of a model that are ready can take; asked once a second at most. */
    capacityOf: (model: string) => Capacity
    /** Whether a model is known at all, though none of its instances may be there now. */
    isServed: (model: string) => boolean
  }) {
    this.#clock = parts.clock
    this.#settings = parts.settings
    this.#capacityOf = parts.capacityOf
    this.#isServed = parts.isServed
    this.#deadlines = new Deadlines(parts.clock)
    this.#metrics = new AdmissionMetrics(parts.metrics, () => this.look())
  }

  async start(): Promise<void> {}

  /** Sends away who still waits. Those under way go on to their end. */
  async stop(): Promise<void> {
    for (const gate of this.#gates.values()) gate.clear('shutting_down')
  }

  get isEnabled(): boolean {
    return this.#settings().enabled
  }

  /**
   * A place for a call to `model`, which is a resolved name: at once where there is room, else a promise of one.
   * Throws, or rejects with, overloaded, deadline_unreachable, client_closed or shutting_down.
   */
  enter(model: string, call: Call, sink: Sink, signal: CancelSignal): Place | Promise<Place> {
    return (this.#gates.get(model) ?? this.#open(model)).enter(call, sink, signal)
  }

  /** What is under way and waits, by model; models that are gone are no longer shown, nor what was learnt of them. */
  *look(): Iterable<ModelSight> {
    for (const [model, gate] of this.#gates) {
      if (this.#isGone(model, gate)) this.#gates.delete(model)
      else yield gate.look()
    }
  }

  #open(model: string): ModelGate {
    this.#forgetSome()
    const gate = new ModelGate({
      model,
      clock: this.#clock,
      deadlines: this.#deadlines,
      cells: this.#metrics.bind(model),
      settings: this.#settings,
      readCapacity: () => this.#capacityOf(model),
    })
    this.#gates.set(model, gate)
    return gate
  }

  #isGone(model: string, gate: ModelGate): boolean {
    return gate.isIdle && !this.#isServed(model)
  }

  /** Forgets some of the models that are gone; where there are too many, one that is served and idle if need be. */
  #forgetSome(): void {
    let idle: string | null = null
    for (let looks = Math.min(looksMax, this.#gates.size); looks > 0; looks -= 1) {
      let next = this.#next.next()
      if (next.done) {
        this.#next = this.#gates.entries()
        next = this.#next.next()
        if (next.done) return
      }
      const [model, gate] = next.value
      if (this.#isGone(model, gate)) this.#gates.delete(model)
      else if (gate.isIdle) idle ??= model
    }
    if (this.#gates.size >= modelsMax && idle !== null) this.#gates.delete(idle)
  }
}
