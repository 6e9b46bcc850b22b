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
