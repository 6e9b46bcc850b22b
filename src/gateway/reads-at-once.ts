import { fail } from '../core/errors.ts'

/** A long read goes on when its client has left: repeating it must not fill the storage's line for everybody. */
const readsMax = { tenant: 2, all: 16 } as const
const retryAfterMs = 1_000

/** Bounds the long reads that are under way: those of each tenant, and all together. */
export class ReadsAtOnce {
  readonly #ofTenants = new Map<string, number>()
  #all = 0

  /** Throws concurrency_limited, and reads nothing, when there is no place. */
  async run<T>(tenant: string, read: () => Promise<T>): Promise<T> {
    const own = this.#ofTenants.get(tenant) ?? 0
    if (own >= readsMax.tenant || this.#all >= readsMax.all) {
      const whose = own >= readsMax.tenant ? `${own} of this tenant` : `${this.#all} of all tenants`
      throw fail('concurrency_limited', {
        message: `As many reads of this kind are under way as are allowed at once (${whose}); come again when one has ended.`,
        retryAfterMs,
      })
    }
    this.#ofTenants.set(tenant, own + 1)
    this.#all += 1
    try {
      return await read()
    } finally {
      this.#release(tenant)
    }
  }

  #release(tenant: string): void {
    this.#all -= 1
    const left = (this.#ofTenants.get(tenant) ?? 0) - 1
    if (left === 0) this.#ofTenants.delete(tenant)
    else this.#ofTenants.set(tenant, left)
  }
}
