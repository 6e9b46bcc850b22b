import type { Clock } from '../../core/clock.ts'
import { fail } from '../../core/errors.ts'
import type { Store } from '../../storage/store.ts'
import { makeTaskId } from '../../storage/task-id.ts'
import type { BatchRequest } from './batch-request.ts'
import { isOpen, moveBatch, type Batch } from './batch.ts'
import type { FileStore } from './file-store.ts'
import { readBatch, writeBatch } from './held-batch.ts'

export const batchLimits = {
  /** Batches that are not over, of one tenant and of all: as many as a runner looks through. */
  tenantOpenMax: 100,
  openMax: 1_000,
} as const

/** A batch, and how far it is. */
export type BatchView = { batch: Batch; counts: { total: number; completed: number; failed: number } }

const changesMax = 20

/** The batches of the tenants, for those who ask about them. The work is done by the BatchRunner, here or elsewhere. */
export class Batches {
  readonly #store: Store
  readonly #files: FileStore
  readonly #clock: Clock
  readonly #onChange: () => void

  /** `onChange` is called when there is something to do: a runner in this process need not wait for its next look. */
  constructor(parts: { store: Store; files: FileStore; clock: Clock; onChange: () => void }) {
    this.#store = parts.store
    this.#files = parts.files
    this.#clock = parts.clock
    this.#onChange = parts.onChange
  }

  /** `keyId` is the key that was shown, null for none. Throws file_not_found, invalid_request and queue_full. */
  async create(tenant: string, request: BatchRequest, keyId: string | null = null): Promise<BatchView> {
    const file = await this.#files.get(tenant, request.inputFileId, 'input_file_id')
    if (file.purpose !== 'batch') {
      const message = `The file \`${file.id}\` was uploaded with the purpose ${file.purpose}; it must be batch.`
      throw fail('invalid_request', { message, param: 'input_file_id' })
    }
    await this.#checkRoom(tenant)
    const { windowMs, ...rest } = request
    const nowMs = this.#clock.wallMs()
    const batch: Batch = {
      ...rest,
      id: makeTaskId('batch', nowMs),
      tenant,
      ...(keyId === null ? {} : { keyId }),
      status: 'validating',
      atMs: { validating: nowMs },
      expiresAtMs: nowMs + windowMs,
      errors: [],
      lines: { total: 0, bad: 0, refused: 0 },
      index: null,
      fed: 0,
      results: null,
      scraps: [],
      counts: null,
      usage: null,
      lease: null,
    }
    await this.#store.documents.insert({ ...writeBatch(batch), createdAtMs: nowMs, expiresAtMs: null })
    this.#onChange()
    return this.#view(batch)
  }

  /** Throws batch_not_found, as for a batch that is another tenant's. */
  async get(tenant: string, id: string): Promise<BatchView> {
    return this.#view((await this.#find(tenant, id)).batch)
  }

  /** Newest first. */
  async list(
    tenant: string,
    page: { after: string | null; limit: number },
  ): Promise<{ batches: BatchView[]; hasMore: boolean }> {
    const after = page.after === null ? {} : { after: page.after }
    const documents = await this.#store.documents.list({
      kind: 'batch',
      tenant,
      limit: page.limit + 1,
      ...after,
    })
    const batches = documents.slice(0, page.limit).map((document) => this.#view(readBatch(document)))
    return { batches: await Promise.all(batches), hasMore: documents.length > page.limit }
  }

  /** Asks for its end: what is done by then is kept. Throws batch_not_found, and conflict when it is over already. */
  async cancel(tenant: string, id: string): Promise<BatchView> {
    for (let turn = 0; turn < changesMax; turn += 1) {
      const { batch, version } = await this.#find(tenant, id)
      if (batch.status === 'cancelling') return this.#view(batch)
      if (batch.status !== 'validating' && batch.status !== 'in_progress') {
        throw fail('conflict', { message: `The batch can't be cancelled: it is ${batch.status}.` })
      }
      const next = moveBatch(batch, 'cancelling', this.#clock.wallMs())
      if (await this.#store.documents.update({ ...writeBatch(next), version, expiresAtMs: null })) {
        this.#onChange()
        return this.#view(next)
      }
    }
    throw fail('conflict', { message: 'The batch changes too often at this moment; try again.' })
  }

  async #find(tenant: string, id: string): Promise<{ batch: Batch; version: number }> {
    const document = await this.#store.documents.get('batch', tenant, id)
    if (document) return { batch: readBatch(document), version: document.version }
    throw fail('batch_not_found', {
      message: `There is no batch \`${id.slice(0, 100)}\`.`,
      param: 'batch_id',
    })
  }

  async #checkRoom(tenant: string): Promise<void> {
    const { openMax, tenantOpenMax } = batchLimits
    const open = await this.#store.documents.listOpen('batch', openMax)
    const own = open.filter((document) => document.tenant === tenant).length
    if (open.length < openMax && own < tenantOpenMax) return
    const message = `${own < tenantOpenMax ? openMax : tenantOpenMax} batches are at work, as many as are taken at once.`
    throw fail('queue_full', { message, retryAfterMs: 60_000 })
  }

  /** Counted in the store while it goes on: this process need not be the one that works on it. */
  async #view(batch: Batch): Promise<BatchView> {
    const { total, bad, refused } = batch.lines
    if (batch.counts || !isOpen(batch.status)) {
      return { batch, counts: { total, ...(batch.counts ?? { completed: 0, failed: bad }) } }
    }
    const tasks = await this.#store.tasks.count(batch.tenant, batch.id)
    const failed = bad + refused + tasks.dead + tasks.expired + tasks.cancelled
    return {
      batch,
      counts: { total, completed: tasks.succeeded, failed: Math.min(failed, total - tasks.succeeded) },
    }
  }
}
