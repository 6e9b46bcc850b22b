import type { Latency } from './limit.ts'

/** So many make a median; of more, the latest count. */
const capacity = 128
/** Fewer say more about their prompts than about the fleet. */
const samplesMin = 8

/** The times to the first byte of one window. Takes no memory but its own. */
export class TtftSamples {
  readonly #values = new Float64Array(capacity)
  #count = 0

  add(ms: number): void {
    this.#values[this.#count % capacity] = ms
    this.#count += 1
  }

  /**
   * Null for too few, and as long as the slower half may still be missing: in a window as short as an answer takes to
   * begin, only the fastest have begun.
   */
  summarise(windowMs: number): Latency | null {
    if (this.#count < samplesMin) return null
    const sorted = this.#values.slice(0, Math.min(this.#count, capacity)).sort()
    const at = (share: number) => sorted[Math.floor((sorted.length - 1) * share)] as number
    if (windowMs < 2 * at(0.5)) return null
    return { samples: this.#count, medianMs: at(0.5), highMs: at(0.9) }
  }

  clear(): void {
    this.#count = 0
  }
}
