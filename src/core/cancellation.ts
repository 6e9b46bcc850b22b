/**
 * Tells a call that nobody wants its answer any more. It stands in for AbortSignal on the way of a request, where
 * an AbortController with one listener costs more than the routing (docs/decisions/003-cancellation.md): there is one
 * listener at a time, the attempt that is under way.
 */
export class Cancellation {
  #cancelled = false
  #listener: (() => void) | null = null

  get cancelled(): boolean {
    return this.#cancelled
  }

  /** Calls the listener, once; later calls do nothing. */
  cancel(): void {
    if (this.#cancelled) return
    this.#cancelled = true
    const listener = this.#listener
    this.#listener = null
    listener?.()
  }

  /** Sets who is told; null takes the listener away. */
  listen(listener: (() => void) | null): void {
    this.#listener = listener
  }

  /** Follows an AbortSignal: for callers that are not on the way of a request. */
  static from(signal: AbortSignal): Cancellation {
    const cancellation = new Cancellation()
    if (signal.aborted) cancellation.cancel()
    else signal.addEventListener('abort', () => cancellation.cancel(), { once: true })
    return cancellation
  }
}
