import type { Candidate } from './policy.ts'

/** Entries of vanished instances that may stay: enough for a fleet that flaps, too few to matter. */
const vanishedMax = 64

/**
 * What a policy remembers of each instance, by id. An instance that is unavailable for a moment keeps its entry;
 * when many have gone for good, all but the present candidates are forgotten, so the size stays bounded by the
 * largest fleet seen.
 */
export class InstanceMemory<T> {
  #entries = new Map<string, T>()
  readonly #create: () => T

  constructor(create: () => T) {
    this.#create = create
  }

  get size(): number {
    return this.#entries.size
  }

  /** The entry of `id`, made when there is none. `candidates` are those that survive when room must be made. */
  of(id: string, candidates: readonly Candidate[]): T {
    return this.#entries.get(id) ?? this.#add(id, candidates)
  }

  #add(id: string, candidates: readonly Candidate[]): T {
    if (this.#entries.size >= 2 * candidates.length + vanishedMax) this.#keepOnly(candidates)
    const entry = this.#create()
    this.#entries.set(id, entry)
    return entry
  }

  #keepOnly(candidates: readonly Candidate[]): void {
    const kept = new Map<string, T>()
    for (const { id } of candidates) {
      const entry = this.#entries.get(id)
      if (entry !== undefined) kept.set(id, entry)
    }
    this.#entries = kept
  }
}
