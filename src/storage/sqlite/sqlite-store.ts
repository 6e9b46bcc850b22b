import type { Clock } from '../../core/clock.ts'
import type { Logger } from '../../telemetry/log.ts'
import { Batcher } from '../batcher.ts'
import { toCreatedTask } from '../created-task.ts'
import {
  StoreUnavailable,
  type BlobStore,
  type CacheStore,
  type DocumentStore,
  type Maintenance,
  type OutboxStore,
  type Store,
  type Wake,
} from '../store.ts'
import type { SubmitOutcome, TaskStore } from '../task-store.ts'
import type { AccessStore } from '../access-store.ts'
import type { UsageStore } from '../usage-store.ts'
import { sizeOf } from './call-size.ts'
import type { Answer } from './group.ts'
import { WorkerLink } from './link.ts'
import { ownBytes } from './byte-run.ts'
import { unpackClaim } from './pack-claim.ts'
import type { Call, OperationArgs, OperationName, Operations } from './operations.ts'
import { toStoredTask } from './stored-task.ts'
import { prepareDatabaseFile } from './private-file.ts'
import { runAside } from './aside.ts'
import { sumInSlices } from './usage-slices.ts'

export type SqliteStoreOptions = {
  path: string
  clock: Clock
  log: Logger
  /** How long a call waits for another process that writes to the database. */
  busyTimeoutMs?: number
}

const batchMax = 1_000
const waitingMax = 20_000
const heldBytesMax = 512 * 1024 * 1024
const restartDelayMs = 1_000

/** The port on an SQLite file: calls are collected, handed to the storage thread and committed together. */
export class SqliteStore implements Store {
  readonly name = 'storage'
  readonly tasks: TaskStore
  readonly documents: DocumentStore
  readonly blobs: BlobStore
  readonly cache: CacheStore
  readonly outbox: OutboxStore
  readonly access: AccessStore
  readonly usage: UsageStore
  readonly maintenance: Maintenance
  readonly #options: SqliteStoreOptions
  readonly #batcher: Batcher<Call, Answer>
  readonly #listeners = new Set<(wake: Wake) => void>()
  #link: WorkerLink | null = null
  #started: Promise<void> | null = null
  #cancelRestart = () => {}
  #heldBytes = 0

  constructor(options: SqliteStoreOptions) {
    this.#options = options
    this.#batcher = new Batcher<Call, Answer>({
      run: (calls) => this.#send(calls),
      batchMax,
      waitingMax,
      // One is built here while the other is committed there.
      inFlightMax: 2,
    })
    const ask = <Name extends OperationName>(op: Name, ...args: OperationArgs<Name>) => this.#ask(op, args)
    this.tasks = makeTasks(ask)
    this.documents = makeDocuments(ask)
    this.blobs = makeBlobs(ask)
    this.cache = makeCache(ask)
    this.outbox = makeOutbox(ask)
    this.access = makeAccess(ask)
    this.usage = makeUsage(ask)
    this.maintenance = makeMaintenance(ask, options.path)
  }

  start(): Promise<void> {
    this.#started ??= this.#open({ freesLeases: true }).catch((error: unknown) => {
      this.#started = null
      throw error
    })
    return this.#started
  }

  async stop(): Promise<void> {
    const started = this.#started
    this.#started = null
    this.#cancelRestart()
    await started?.catch(() => {})
    const link = this.#link
    this.#link = null
    await link?.stop()
  }

  onWake(listener: (wake: Wake) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  async #open({ freesLeases }: { freesLeases: boolean }): Promise<void> {
    const { path, log, busyTimeoutMs = 5_000 } = this.#options
    prepareDatabaseFile(path)
    const link = await WorkerLink.open({ path, busyTimeoutMs, freesLeases }, (wakes) => this.#tell(wakes))
    this.#link = link
    void link.ended.then((error) => {
      if (this.#link !== link) return
      this.#link = null
      log.error({ err: error?.cause ?? error }, 'the storage thread has ended; it is started again')
      this.#restartSoon()
    })
  }

  /** What a crash left behind is on disk up to the last commit: a new thread goes on from there. */
  #restartSoon(): void {
    this.#cancelRestart = this.#options.clock.after(restartDelayMs, () => {
      // The leases are those of tasks that run in this process now.
      const attempt = this.#open({ freesLeases: false })
      this.#started = attempt
      attempt.catch((error: unknown) => {
        // Stopped meanwhile: nobody waits for it any more.
        if (this.#started !== attempt) return
        this.#options.log.error({ err: error }, 'the storage thread cannot be started again yet')
        this.#restartSoon()
      })
    })
  }

  #send(calls: Call[]): Promise<Answer[]> {
    if (this.#link) return this.#link.send(calls)
    return Promise.reject(new StoreUnavailable('The storage is not running.'))
  }

  async #ask<Name extends OperationName>(
    op: Name,
    args: OperationArgs<Name>,
  ): Promise<ReturnType<Operations[Name]>> {
    const call = { op, args } as unknown as Call
    const answer = await this.#hold(call)
    if ('value' in answer) return answer.value as ReturnType<Operations[Name]>
    const { message, unavailable } = answer.error
    throw unavailable ? new StoreUnavailable(message) : new Error(`${op}: ${message}`)
  }

  async #hold(call: Call): Promise<Answer> {
    const bytes = sizeOf(call)
    // A large one must get through when nothing else is held.
    if (this.#heldBytes > 0 && this.#heldBytes + bytes > heldBytesMax) {
      throw new StoreUnavailable('Too many bytes wait for the store already.')
    }
    this.#heldBytes += bytes
    try {
      return await this.#batcher.add(call)
    } finally {
      this.#heldBytes -= bytes
    }
  }

  #tell(wakes: readonly Wake[]): void {
    for (const wake of wakes) {
      for (const listener of this.#listeners) {
        try {
          listener(wake)
        } catch (error) {
          // Neither the other listeners nor the process are to pay for it.
          this.#options.log.error({ err: error }, 'a listener of the store failed')
        }
      }
    }
  }
}

type Ask = <Name extends OperationName>(
  op: Name,
  ...args: OperationArgs<Name>
) => Promise<ReturnType<Operations[Name]>>

const makeTasks = (ask: Ask): TaskStore => ({
  submit: async (tasks, limits) => {
    const outcomes = await ask('submit', tasks.map(toStoredTask), limits)
    return outcomes.map((outcome, index): SubmitOutcome =>
      outcome.kind === 'created'
        ? { kind: 'created', task: toCreatedTask(tasks[index]!, outcome.status) }
        : outcome,
    )
  },
  claim: async (request) => unpackClaim(await ask('claim', request), request),
  waitingModels: () => ask('waitingModels'),
  renew: (leases, leaseUntilMs) => ask('renew', leases, leaseUntilMs),
  settle: (settlements) => ask('settle', settlements),
  saveStep: (id, attempt, step) => ask('saveStep', id, attempt, { ...step, result: ownBytes(step.result) }),
  cancel: (tenant, id, nowMs) => ask('cancel', tenant, id, nowMs),
  requeue: (tenant, id, nowMs) => ask('requeue', tenant, id, nowMs),
  remove: (tenant, id) => ask('remove', tenant, id),
  get: (tenant, id) => ask('get', tenant, id),
  find: (id) => ask('find', id),
  eventsAfter: (id, seq) => ask('eventsAfter', id, seq),
  list: (filter) => ask('list', filter),
  count: (tenant, parent) => ask('count', tenant, parent),
  depths: () => ask('depths'),
  results: (parent, afterPosition, limit) => ask('results', parent, afterPosition, limit),
  promote: (nowMs, limit) => ask('promote', nowMs, limit),
  expire: (nowMs, limit) => ask('expire', nowMs, limit),
  rescue: (nowMs, limit) => ask('rescue', nowMs, limit),
  nextDueMs: () => ask('nextDueMs'),
})

const makeDocuments = (ask: Ask): DocumentStore => ({
  insert: (document) => ask('insertDocument', document),
  get: (kind, tenant, id) => ask('getDocument', kind, tenant, id),
  update: (document) => ask('updateDocument', document),
  remove: (kind, tenant, id) => ask('removeDocument', kind, tenant, id),
  list: (query) => ask('listDocuments', query),
  listOpen: (kind, limit) => ask('listOpenDocuments', kind, limit),
})

const makeBlobs = (ask: Ask): BlobStore => ({
  append: (id, pieces) => ask('appendBlob', id, pieces.map(ownBytes)),
  read: (id, after, limit) => ask('readBlob', id, after, limit),
  remove: (id) => ask('removeBlob', id),
})

const makeCache = (ask: Ask): CacheStore => ({
  get: (key) => ask('getCached', key),
  put: (entry) => ask('putCached', { ...entry, value: ownBytes(entry.value) }),
  prune: (nowMs, bytesMax, limit) => ask('pruneCache', nowMs, bytesMax, limit),
})

const makeOutbox = (ask: Ask): OutboxStore => ({
  claim: (nowMs, leaseMs, limit) => ask('claimMessages', nowMs, leaseMs, limit),
  settle: (id, attempt, retryAtMs) => ask('settleMessage', id, attempt, retryAtMs),
})

const makeAccess = (ask: Ask): AccessStore => ({
  revision: () => ask('accessRevision'),
  insertKey: (key, limits) => ask('insertKey', key, limits),
  getKey: (id) => ask('getKey', id),
  listKeys: (query) => ask('listKeys', query),
  revokeKey: (id, nowMs) => ask('revokeKey', id, nowMs),
  changedKeys: (revision, limit) => ask('changedKeys', revision, limit),
  putTenant: (tenant, tenantsMax) => ask('putTenant', tenant, tenantsMax),
  listTenants: (query) => ask('listTenants', query),
  removeTenant: (name) => ask('removeTenant', name),
  insertSecret: (secret) => ask('insertSecret', secret),
  listSecrets: (kind) => ask('listSecrets', kind),
  removeSecrets: (kind, upTo) => ask('removeSecrets', kind, upTo),
})

const makeUsage = (ask: Ask): UsageStore => ({
  add: (batch) => ask('addUsage', batch),
  sum: (query) =>
    sumInSlices(query, { span: () => ask('usageSpan'), sum: (slice) => ask('sumUsage', slice) }),
  costs: (tenants, fromMs) => ask('usageCosts', tenants, fromMs),
})

const makeMaintenance = (ask: Ask, path: string): Maintenance => ({
  prune: (retention, nowMs, limit) => ask('prune', retention, nowMs, limit),
  pruneTenants: (prune) => ask('pruneTenants', prune),
  check: () => runAside({ path, task: 'check' }),
  describe: () => ask('describe'),
})
