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

  /** Throws as the router does, and what `Admission.enter` throws. */
  async run(call: Call, sink: Sink, signal: AbortSignal, options?: RunOptions): Promise<void> {
    const model = this.#admission.isEnabled ? this.#router.resolve(call.model) : null
    if (model === null) return this.#router.run(call, sink, signal, options)
    const entered = this.#admission.enter(model, call, sink, signal)
    const place = entered instanceof Place ? entered : await entered
    try {
      await this.#router.run(call, place, signal, options)
    } catch (thrown) {
      place.leave(thrown)
      throw thrown
    }
    place.leave(null)
  }
}
