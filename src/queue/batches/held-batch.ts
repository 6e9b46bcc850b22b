import type { Clock } from '../../core/clock.ts'
import type { Document, Store } from '../../storage/store.ts'
import { isOpen, type Batch } from './batch.ts'

/** Another process works on the batch now, or it is gone: everything here must stop at once. */
export class BatchLost extends Error {
  override readonly name = 'BatchLost'
}

export const readBatch = ({ data }: Document): Batch => JSON.parse(data) as Batch

export const writeBatch = (batch: Batch): Pick<Document, 'kind' | 'id' | 'tenant' | 'open' | 'data'> => ({
  kind: 'batch',
  id: batch.id,
  tenant: batch.tenant,
  open: isOpen(batch.status),
  data: JSON.stringify(batch),
})

const changesMax = 20

/**
 * A batch that this process works on. Every change is a versioned write that carries the lease on, so that of two
 * processes that both take themselves for the owner one finds out before anything of it counts.
 */
export class HeldBatch {
  readonly #store: Store
  readonly #clock: Clock
  readonly #owner: string
  readonly #leaseMs: number
  #version: number
  #batch: Batch

  constructor(parts: { store: Store; clock: Clock; owner: string; leaseMs: number; document: Document }) {
    this.#store = parts.store
    this.#clock = parts.clock
    this.#owner = parts.owner
    this.#leaseMs = parts.leaseMs
    this.#version = parts.document.version
    this.#batch = readBatch(parts.document)
  }

  get batch(): Batch {
    return this.#batch
  }

  /** False when another process has the lease; with `isAlone` there is none, and a lease was left by one that is gone. */
  async take(isAlone: boolean): Promise<boolean> {
    const { lease } = this.#batch
    if (lease && lease.owner !== this.#owner && !isAlone && this.#isRunning(lease)) return false
    if (lease?.owner === this.#owner && !this.#isLeaseShort()) return true
    return this.#write(this.#batch, this.#lease())
  }

  /**
   * Writes what `apply` makes of the batch as it is stored; where that is null the batch has moved on and nothing is
   * written. False then. Throws BatchLost when it is another's meanwhile.
   */
  async change(
    apply: (batch: Batch) => Batch | null,
    options: { expiresAtMs?: number | null } = {},
  ): Promise<boolean> {
    for (let turn = 0; turn < changesMax; turn += 1) {
      const next = apply(this.#batch)
      if (next === null) return false
      const lease = isOpen(next.status) ? this.#lease() : null
      if (await this.#write(next, lease, options.expiresAtMs)) return true
      await this.#reload()
    }
    throw new BatchLost(`the batch ${this.#batch.id} changes too often`)
  }

  /** To be called now and then in work that takes long. */
  async renew(): Promise<void> {
    if (this.#isLeaseShort()) await this.change((batch) => batch)
  }

  /** Lets another process go on at once. */
  async release(): Promise<void> {
    if (this.#batch.lease?.owner === this.#owner) await this.#write(this.#batch, null)
  }

  async #reload(): Promise<void> {
    const { id, tenant } = this.#batch
    const document = await this.#store.documents.get('batch', tenant, id)
    if (!document) throw new BatchLost(`the batch ${id} is gone`)
    this.#version = document.version
    this.#batch = readBatch(document)
    if (this.#batch.lease?.owner !== this.#owner) throw new BatchLost(`the batch ${id} is another's`)
  }

  async #write(batch: Batch, lease: Batch['lease'], expiresAtMs: number | null = null): Promise<boolean> {
    const next = { ...batch, lease }
    const written = await this.#store.documents.update({
      ...writeBatch(next),
      version: this.#version,
      expiresAtMs,
    })
    if (!written) return false
    this.#version += 1
    this.#batch = next
    return true
  }

  #lease(): Batch['lease'] {
    return { owner: this.#owner, untilMs: this.#clock.wallMs() + this.#leaseMs }
  }

  /** One that would run for longer than any lease was given by a clock that has been set back since. */
  #isRunning(lease: NonNullable<Batch['lease']>): boolean {
    const leftMs = lease.untilMs - this.#clock.wallMs()
    return leftMs > 0 && leftMs <= 2 * this.#leaseMs
  }

  #isLeaseShort(): boolean {
    const leftMs = (this.#batch.lease?.untilMs ?? 0) - this.#clock.wallMs()
    return leftMs < this.#leaseMs / 2 || leftMs > this.#leaseMs
  }
}
