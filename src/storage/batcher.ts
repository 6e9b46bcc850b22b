import { StoreUnavailable } from './store.ts'

type BatcherOptions<In, Out> = {
  /** Answers every item of a batch, in its order. A rejection is the answer to all of them. */
  run: (batch: In[]) => Promise<Out[]>
  batchMax: number
  /** Items that may wait for their batch; one more is refused. */
  waitingMax: number
  /** Batches under way at once. */
  inFlightMax?: number
}

type Waiting<In, Out> = { item: In; resolve: (out: Out) => void; reject: (error: unknown) => void }

/**
 * Collects what is asked in one turn of the event loop, and while the batches before are under way: the busier it is,
 * the more each batch carries. This is what makes one commit serve many callers.
 */
export class Batcher<In, Out> {
  readonly #options: Required<BatcherOptions<In, Out>>
  #waiting: Waiting<In, Out>[] = []
  #inFlight = 0
  #scheduled = false

  constructor(options: BatcherOptions<In, Out>) {
    this.#options = { inFlightMax: 1, ...options }
  }

  /** Items that have no answer yet and are in no batch. */
  get waiting(): number {
    return this.#waiting.length
  }

  /** Resolves with the item's own answer. Throws StoreUnavailable when too many wait. */
  add(item: In): Promise<Out> {
    if (this.#waiting.length >= this.#options.waitingMax) {
      return Promise.reject(
        new StoreUnavailable(`${this.#options.waitingMax} calls wait for the store already.`),
      )
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject })
      this.#schedule()
    })
  }

  #schedule(): void {
    if (this.#scheduled || this.#inFlight >= this.#options.inFlightMax || this.#waiting.length === 0) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      void this.#flush()
    })
  }

  async #flush(): Promise<void> {
    const batch = this.#waiting.splice(0, this.#options.batchMax)
    if (batch.length === 0) return
    this.#inFlight += 1
    this.#schedule()
    try {
      const answers = await this.#options.run(batch.map(({ item }) => item))
      for (const [index, { resolve }] of batch.entries()) resolve(answers[index] as Out)
    } catch (error) {
      for (const { reject } of batch) reject(error)
    } finally {
      this.#inFlight -= 1
      this.#schedule()
    }
  }
}
