import type { Config } from '../../config/schema.ts'

export type Price = Config['prices'][string]

const free: Price = { input: 0, cached: 0, output: 0 }

/** The prices of the configuration, by the name of the model itself. What has none is free. */
export class PriceTable {
  readonly #read: () => Config['prices']
  #source: Config['prices'] | null = null
  #prices: ReadonlyMap<string, Price> = new Map()

  /** `read` gives the same object until the prices change. */
  constructor(read: () => Config['prices']) {
    this.#read = read
  }

  of(model: string): Price {
    const source = this.#read()
    if (source !== this.#source) {
      this.#source = source
      this.#prices = new Map(Object.entries(source))
    }
    return this.#prices.get(model) ?? free
  }
}

/** What tokens cost; prices are for a million of them. */
export function costOf(
  { input, cached, output }: Price,
  promptTokens: number,
  cachedTokens: number,
  completionTokens: number,
): number {
  // An instance that counts more cached tokens than the prompt has must not earn its caller money.
  const fromCache = Math.min(cachedTokens, promptTokens)
  return ((promptTokens - fromCache) * input + fromCache * cached + completionTokens * output) / 1e6
}
