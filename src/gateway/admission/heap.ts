/** The first of many things by some order, in O(log n); any of them may leave, or move when its order has changed. */
export class Heap<T extends object> {
  readonly #isBefore: (one: T, other: T) => boolean
  readonly #items: T[] = []
  readonly #places = new Map<T, number>()

  constructor(isBefore: (one: T, other: T) => boolean) {
    this.#isBefore = isBefore
  }

  get size(): number {
    return this.#items.length
  }

  /** Undefined when empty. */
  get first(): T | undefined {
    return this.#items[0]
  }

  add(item: T): void {
    this.#put(item, this.#items.push(item) - 1)
    this.#rise(this.#items.length - 1)
  }

  /** Nothing happens for what is not there. */
  delete(item: T): void {
    const place = this.#places.get(item)
    if (place === undefined) return
    this.#places.delete(item)
    const last = this.#items.pop() as T
    if (last === item) return
    this.#put(last, place)
    this.#settle(place)
  }

  /** The order of `item` has changed. */
  move(item: T): void {
    const place = this.#places.get(item)
    if (place !== undefined) this.#settle(place)
  }

  #settle(place: number): void {
    this.#sink(this.#rise(place))
  }

  #rise(from: number): number {
    let place = from
    while (place > 0) {
      const parent = (place - 1) >> 1
      if (!this.#isBefore(this.#items[place] as T, this.#items[parent] as T)) break
      this.#swap(place, parent)
      place = parent
    }
    return place
  }

  #sink(from: number): void {
    let place = from
    for (;;) {
      let least = place
      for (let child = place * 2 + 1; child <= place * 2 + 2 && child < this.#items.length; child += 1) {
        if (this.#isBefore(this.#items[child] as T, this.#items[least] as T)) least = child
      }
      if (least === place) return
      this.#swap(place, least)
      place = least
    }
  }

  #swap(one: number, other: number): void {
    const item = this.#items[one] as T
    this.#put(this.#items[other] as T, one)
    this.#put(item, other)
  }

  #put(item: T, place: number): void {
    this.#items[place] = item
    this.#places.set(item, place)
  }
}
