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

/** A map of at most `capacity` entries that forgets the entry unused for longest. */
export class LruMap<K, V> {
  readonly capacity: number
  #entries = new Map<K, V>()

  constructor(capacity: number) {
    this.capacity = capacity
  }

  get size(): number {
    return this.#entries.size
  }

  /** The value of `key`, which becomes the most recently used. */
  get(key: K): V | undefined {
    const value = this.#entries.get(key)
    if (value === undefined) return undefined
    this.#entries.delete(key)
    this.#entries.set(key, value)
    return value
  }

  set(key: K, value: V): void {
    this.#entries.delete(key)
    this.#entries.set(key, value)
    if (this.#entries.size > this.capacity) {
      const oldest = this.#entries.keys().next()
      if (!oldest.done) this.#entries.delete(oldest.value)
    }
  }

  delete(key: K): void {
    this.#entries.delete(key)
  }
}

/** A map whose entries have sizes: it holds at most `capacity` of them together, and forgets what is unused for longest. */
export class SizedLruMap<K, V> {
  #entries = new Map<K, { value: V; size: number }>()
  #total = 0

  /** The sum of the sizes of what is in it. */
  get total(): number {
    return this.#total
  }

  get size(): number {
    return this.#entries.size
  }

  /** The value of `key`, which becomes the most recently used. */
  get(key: K): V | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    this.#entries.delete(key)
    this.#entries.set(key, entry)
    return entry.value
  }

  /** Keeps a value unless it is larger than `capacity` alone, and forgets others until all fit. */
  set(key: K, value: V, limits: { size: number; capacity: number }): void {
    this.delete(key)
    if (limits.size <= limits.capacity) {
      this.#entries.set(key, { value, size: limits.size })
      this.#total += limits.size
    }
    this.shrink(limits.capacity)
  }

  /** Forgets until at most `capacity` is left: a capacity may change while the program runs. */
  shrink(capacity: number): void {
    for (const key of this.#entries.keys()) {
      if (this.#total <= capacity) return
      this.delete(key)
    }
  }

  delete(key: K): void {
    this.#total -= this.#entries.get(key)?.size ?? 0
    this.#entries.delete(key)
  }
}
