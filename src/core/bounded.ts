/** A first-in-first-out queue that refuses what it has no room for. */
export class BoundedQueue<T> {
  readonly capacity: number
  #items: (T | undefined)[]
  #head = 0
  #size = 0

  constructor(capacity: number) {
    this.capacity = capacity
    this.#items = Array.from({ length: capacity })
  }

  get size(): number {
    return this.#size
  }

  /** Adds `item` at the end; false, and nothing added, when full. */
  offer(item: T): boolean {
    if (this.#size === this.capacity) return false
    this.#items[(this.#head + this.#size) % this.capacity] = item
    this.#size += 1
    return true
  }

  /** Removes and returns the oldest item, or undefined when empty. */
  take(): T | undefined {
    if (this.#size === 0) return undefined
    const item = this.#items[this.#head]
    this.#items[this.#head] = undefined
    this.#head = (this.#head + 1) % this.capacity
    this.#size -= 1
    return item
  }

  /** Removes the first item that is `item`; false when it is not there. */
  remove(item: T): boolean {
    const kept: T[] = []
    let found = false
    for (let next = this.take(); next !== undefined; next = this.take()) {
      if (!found && next === item) found = true
      else kept.push(next)
    }
    for (const next of kept) this.offer(next)
    return found
  }
}

/**
 * A map of at most `capacity` entries that forgets one which was not used of late. An entry that was used since it was
 * last looked at for this is spared once (second chance, also called CLOCK): a use is a mark, and moves nothing. Moving
 * the entry at each use would be slow, for V8's maps keep what was deleted in their chains until they grow.
 * Source: F. J. Corbató, A Paging Experiment with the Multics System, 1968.
 */
export class LruMap<K, V> {
  readonly capacity: number
  readonly #entries = new Map<K, Entry<V>>()

  constructor(capacity: number) {
    this.capacity = capacity
  }

  get size(): number {
    return this.#entries.size
  }

  /** The value of `key`, which is spared the next time that something has to go. */
  get(key: K): V | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    entry.isUsed = true
    return entry.value
  }

  set(key: K, value: V): void {
    const entry = this.#entries.get(key)
    if (entry !== undefined) {
      entry.value = value
      entry.isUsed = true
      return
    }
    if (this.#entries.size >= this.capacity) this.#entries.delete(findUnused(this.#entries))
    this.#entries.set(key, { value, isUsed: false })
  }

  delete(key: K): void {
    this.#entries.delete(key)
  }

  /** Forgets every entry that `test` finds. */
  deleteWhere(test: (value: V, key: K) => boolean): void {
    for (const [key, { value }] of this.#entries) if (test(value, key)) this.#entries.delete(key)
  }

  clear(): void {
    this.#entries.clear()
  }
}

/** The same for entries that have sizes: it holds at most `capacity` of them together. */
export class SizedLruMap<K, V> {
  readonly #entries = new Map<K, Entry<V> & { size: number }>()
  #total = 0

  /** The sum of the sizes of what is in it. */
  get total(): number {
    return this.#total
  }

  get size(): number {
    return this.#entries.size
  }

  /** The value of `key`, which is spared the next time that something has to go. */
  get(key: K): V | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    entry.isUsed = true
    return entry.value
  }

  /** Keeps a value unless it is larger than `capacity` alone, and forgets others until all fit. */
  set(key: K, value: V, limits: { size: number; capacity: number }): void {
    this.delete(key)
    if (limits.size > limits.capacity) return this.shrink(limits.capacity)
    this.shrink(limits.capacity - limits.size)
    this.#entries.set(key, { value, size: limits.size, isUsed: false })
    this.#total += limits.size
  }

  /** Forgets until at most `capacity` is left: a capacity may change while the program runs. */
  shrink(capacity: number): void {
    while (this.#total > capacity) this.delete(findUnused(this.#entries))
  }

  delete(key: K): void {
    this.#total -= this.#entries.get(key)?.size ?? 0
    this.#entries.delete(key)
  }
}

type Entry<V> = { value: V; isUsed: boolean }

/** The first entry, from the oldest on, that was not used; those before it lose their mark and go to the end. */
function findUnused<K, E extends Entry<unknown>>(entries: Map<K, E>): K {
  for (const [key, entry] of entries) {
    if (!entry.isUsed) return key
    entry.isUsed = false
    entries.delete(key)
    entries.set(key, entry)
  }
  throw new Error('an empty map has nothing to forget')
}
