import type { CancelSignal } from '../../core/cancellation.ts'
import type { ModelRouter } from '../../queue/live-router.ts'
import type { Call, Sink } from '../../router/call.ts'
import type { RunOptions } from '../../router/router.ts'
import type { Admission } from './admission.ts'
import { Place } from './place.ts'

/** The router behind the door: a call takes a place before it goes to an instance, and gives it back at its end. */
export class AdmittedRouter implements ModelRouter {
  readonly #router: ModelRouter
  readonly #admission: Admission

  constructor(parts: { router: ModelRouter; admission: Admission }) {
    this.#router = parts.router
    this.#admission = parts.admission
  }

  get aliases(): Readonly<Record<string, string>> {
    return this.#router.aliases
  }

  resolve(name: string): string | null {
    return this.#router.resolve(name)
  }

  /** Rejects as the router does, and with what `Admission.enter` throws. */
  run(call: Call, sink: Sink, signal: CancelSignal, options?: RunOptions): Promise<void> {
    const model = this.#admission.isEnabled ? this.#router.resolve(call.model) : null
    if (model === null) return this.#router.run(call, sink, signal, options)
    try {
      const entered = this.#admission.enter(model, call, sink, signal)
      if (entered instanceof Place) return this.#router.run(call, entered, signal, options)
      return this.#runLater(entered, call, sink, signal, options)
    } catch (thrown) {
      sink.settled?.(thrown)
      return Promise.reject(thrown)
    }
  }

  async #runLater(
    entered: Promise<Place>,
    call: Call,
    sink: Sink,
    signal: CancelSignal,
    options?: RunOptions,
  ): Promise<void> {
    const place = await entered.catch((thrown: unknown) => {
      sink.settled?.(thrown)
      throw thrown
    })
    return this.#router.run(call, place, signal, options)
  }
}
