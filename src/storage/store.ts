import type { Service } from '../core/service.ts'
import type { AccessStore } from './access-store.ts'
import type { TaskStore } from './task-store.ts'
import type { UsageStore } from './usage-store.ts'

/**
 * The port of the storage engine. Two drivers stand behind it, sqlite/ and postgres/, and one conformance suite
 * (test/conformance/store.ts) holds both to what is written here and in the files of its parts.
 *
 * - A promise that resolves says that its write is on disk. Calls made together are committed together.
 * - Times are wall-clock milliseconds since the epoch and are given by the caller: a store reads no clock.
 * - Every write that belongs to an attempt names it, and is refused when the task has moved on.
 * - Nothing here waits for a model: a transaction never outlives a call.
 */

/** What is refused when the store can't write: the disk is full, the server is away. Nothing was acknowledged. */
export class StoreUnavailable extends Error {
  override readonly name = 'StoreUnavailable'
}

/** What listeners in this process (and, on PostgreSQL, in others) are told after a commit. Hints: any may be missing. */
export type Wake =
  /** Work waits for this model. */
  | { kind: 'ready'; model: string }
  | { kind: 'cancel'; id: string }
  /** The task has another state or event; `parent` is its batch. */
  | { kind: 'changed'; id: string; parent: string | null }
  /** A message waits in the outbox. */
  | { kind: 'outbox' }
  /** A key, a tenant or a secret has changed. */
  | { kind: 'access' }

/**
 * What is neither a task nor bytes: a file's description, a batch, a stored response. Each kind is a namespace.
 * `data` is JSON. A write names the version it has seen: another writer in between is found, not overwritten.
 */
export type Document = {
  kind: string
  id: string
  tenant: string
  /** 1 at first, then counted up. */
  version: number
  createdAtMs: number
  /** Removed by the retention after this; null for never. */
  expiresAtMs: number | null
  /** Work is left to do on it: `listOpen` finds it after a restart. */
  open: boolean
  data: string
}

export interface DocumentStore {
  /** False when the id is taken. */
  insert(document: Omit<Document, 'version'>): Promise<boolean>
  /** Null when unknown or of another tenant. */
  get(kind: string, tenant: string, id: string): Promise<Document | null>
  /** False when `version` is not the stored one any more. */
  update(
    document: Pick<Document, 'kind' | 'id' | 'tenant' | 'version' | 'expiresAtMs' | 'open' | 'data'>,
  ): Promise<boolean>
  remove(kind: string, tenant: string, id: string): Promise<boolean>
  /** Newest first (with `ascending` oldest first), after the id given. */
  list(query: {
    kind: string
    tenant: string
    after?: string
    ascending?: boolean
    limit: number
  }): Promise<Document[]>
  /** All open ones of a kind, whoever's they are, oldest first. */
  listOpen(kind: string, limit: number): Promise<Document[]>
}

/** Bytes in numbered pieces: the content of files, the events of a background stream. */
export interface BlobStore {
  /** Appends pieces behind the last one; returns the number of the last piece (the first is 1). */
  append(id: string, pieces: readonly Uint8Array[]): Promise<number>
  /** Pieces after the one with this number, in order. */
  read(id: string, after: number, limit: number): Promise<{ number: number; bytes: Uint8Array }[]>
  remove(id: string): Promise<void>
}

/** Cached answers: a table that may lose everything. Expiry is the reader's to check as well. */
export interface CacheStore {
  get(key: string): Promise<{ value: Uint8Array; storedAtMs: number; expiresAtMs: number } | null>
  put(entry: {
    key: string
    tenant: string
    value: Uint8Array
    storedAtMs: number
    expiresAtMs: number
  }): Promise<void>
  /** Removes what has expired and, oldest first, what is beyond `bytesMax`, at most `limit`; returns how many. */
  prune(nowMs: number, bytesMax: number, limit: number): Promise<number>
}

/** Messages to the outside, written in the transaction that they tell of. */
export type OutboxMessage = {
  id: string
  taskId: string
  tenant: string
  createdAtMs: number
  attempt: number
}

export interface OutboxStore {
  /** Takes due messages; each has its attempt counted, and comes again when not settled by `nowMs + leaseMs`. */
  claim(nowMs: number, leaseMs: number, limit: number): Promise<OutboxMessage[]>
  /** `null`: delivered or given up, and removed. A time: to be tried again then. Fenced by the attempt. */
  settle(id: string, attempt: number, retryAtMs: number | null): Promise<boolean>
}

export type Retention = {
  /** Ended tasks older than this go, whoever's they are. */
  finishedBeforeMs: number
  /** Ended tasks beyond this many go, oldest first. */
  finishedMax: number
}

/**
 * A place among the ended tasks in the order of their ends: in front of those that ended in that moment when `tie` is
 * empty, else behind the one that a step came to.
 */
export type EndedPlace = { finishedAtMs: number; tie: string }

/** The retention of some tenants: ended tasks of theirs, or of all others, older than `beforeMs` go. */
export type TenantPrune = {
  from: EndedPlace
  beforeMs: number
  tenants: readonly string[]
  whose: 'theirs' | 'others'
  /** Removed at most. */
  limit: number
  /** Read at most, whoever's they are. */
  readMax: number
}

/** `next` is where to go on; null when all up to `beforeMs` has been looked at. */
export type TenantPruned = { removed: number; next: EndedPlace | null }

export interface Maintenance {
  /**
   * One small step: at most `limit` ended tasks and expired documents with all that belongs to them, the blob of a
   * document's id included, and as many hours of usage that are past their time. Tasks whose `parent` is the id of an
   * open document stay.
   */
  prune(retention: Retention, nowMs: number, limit: number): Promise<number>
  /** One small step along the ended tasks, those that ended first in front. Lines of an open batch stay here too. */
  pruneTenants(prune: TenantPrune): Promise<TenantPruned>
  /** Looks for damage; an empty list is good news. */
  check(): Promise<string[]>
  /** For people and metrics. */
  describe(): Promise<{ driver: string; schemaVersion: number; bytes: number }>
}

export interface Store extends Service {
  readonly tasks: TaskStore
  readonly documents: DocumentStore
  readonly blobs: BlobStore
  readonly cache: CacheStore
  readonly outbox: OutboxStore
  readonly access: AccessStore
  readonly usage: UsageStore
  readonly maintenance: Maintenance
  /** Called after commits. The returned function ends it. */
  onWake(listener: (wake: Wake) => void): () => void
}
