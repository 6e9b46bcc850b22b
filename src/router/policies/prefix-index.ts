/** The blocks one instance is believed to hold: those used lately, and those used before that. */
type Held = { young: Set<number>; old: Set<number> }

/**
 * Which prompt blocks each instance has seen lately: a guess at its KV cache, made from the requests sent to it.
 *
 * Least recently used in two generations. A used block is put among the young; when the young of all instances
 * together are half of the limit, they become the old and the old are forgotten. This is bounded exactly, costs one
 * set insertion a block and nothing for a block already young, and an instance that has gone is forgotten by itself.
 *
 * The blocks of a prompt are used together and the generations change between prompts only, so whoever holds block i
 * of a chain holds all before it. The length of a match is therefore found by bisection.
 */
export class PrefixIndex {
  readonly #youngMax: number
  #youngCount = 0
  #instances = new Map<string, Held>()

  constructor(limits: { blocksMax: number }) {
    this.#youngMax = Math.max(1, Math.floor(limits.blocksMax / 2))
  }

  /** Blocks remembered, over all instances. */
  get size(): number {
    let size = 0
    for (const { young, old } of this.#instances.values()) size += young.size + old.size
    return size
  }

  /** How many leading blocks the instance holds. */
  match(id: string, blocks: readonly number[]): number {
    const held = this.#instances.get(id)
    if (held === undefined) return 0
    return countHeld(blocks, held.young, held.old)
  }

  /** Notes that the instance is given a prompt of these blocks. */
  add(id: string, blocks: readonly number[]): void {
    if (blocks.length === 0) return
    const { young } = this.#instances.get(id) ?? this.#track(id)
    const known = countHeld(blocks, young, young)
    for (let i = known; i < blocks.length; i += 1) young.add(blocks[i]!)
    this.#youngCount += blocks.length - known
    if (this.#youngCount >= this.#youngMax) this.#age()
  }

  #track(id: string): Held {
    const held = { young: new Set<number>(), old: new Set<number>() }
    this.#instances.set(id, held)
    return held
  }

  #age(): void {
    for (const [id, held] of this.#instances) {
      if (held.young.size === 0) this.#instances.delete(id)
      else this.#instances.set(id, { young: new Set(), old: held.young })
    }
    this.#youngCount = 0
  }
}

/** The number of leading blocks in either set, where a block in one of them means that all before it are. */
function countHeld(blocks: readonly number[], young: Set<number>, old: Set<number>): number {
  let held = 0
  let missing = blocks.length + 1
  while (missing - held > 1) {
    const middle = (held + missing) >>> 1
    const block = blocks[middle - 1]!
    if (young.has(block) || old.has(block)) held = middle
    else missing = middle
  }
  return held
}
