import type { ClaimRequest } from '../task-store.ts'
import {
  accessRevision,
  changedKeys,
  getKey,
  insertKey,
  insertSecret,
  listKeys,
  listSecrets,
  listTenants,
  putTenant,
  removeSecrets,
  removeTenant,
  revokeKey,
} from './access.ts'
import { appendBlob, getCached, pruneCache, putCached, readBlob, removeBlob } from './bytes.ts'
import { claim } from './claim.ts'
import type { Context } from './context.ts'
import {
  getDocument,
  insertDocument,
  listDocuments,
  listOpenDocuments,
  removeDocument,
  updateDocument,
} from './documents.ts'
import { expire, promote, rescue } from './due.ts'
import { cancel, remove, requeue } from './hand.ts'
import { describe, prune } from './maintenance.ts'
import { pruneTenants } from './prune-tenants.ts'
import { claimMessages, settleMessage } from './outbox.ts'
import {
  count,
  depths,
  eventsAfter,
  find,
  get,
  list,
  nextDueMs,
  results,
  waitingModels,
} from './read-tasks.ts'
import { packClaim } from './pack-claim.ts'
import { renew, saveStep, settle } from './settle.ts'
import { submit } from './submit.ts'
import { addUsage, sumUsage, usageCosts, usageSpan } from './usage.ts'

/** Everything that the worker thread can be asked. */
const operations = {
  submit,
  claim: (context: Context, request: ClaimRequest) => packClaim(claim(context, request)),
  renew,
  settle,
  saveStep,
  cancel,
  requeue,
  remove,
  promote,
  expire,
  rescue,
  insertDocument,
  updateDocument,
  removeDocument,
  appendBlob,
  removeBlob,
  putCached,
  pruneCache,
  claimMessages,
  settleMessage,
  prune,
  pruneTenants,
  waitingModels,
  get,
  find,
  eventsAfter,
  list,
  count,
  depths,
  results,
  nextDueMs,
  getDocument,
  listDocuments,
  listOpenDocuments,
  readBlob,
  getCached,
  describe,
  accessRevision,
  insertKey,
  getKey,
  listKeys,
  revokeKey,
  changedKeys,
  putTenant,
  listTenants,
  removeTenant,
  insertSecret,
  listSecrets,
  removeSecrets,
  addUsage,
  sumUsage,
  usageCosts,
  usageSpan,
} satisfies Record<string, (context: Context, ...args: never[]) => unknown>

export type Operations = typeof operations
export type OperationName = keyof Operations
export type OperationArgs<Name extends OperationName> =
  Parameters<Operations[Name]> extends [Context, ...infer Rest] ? Rest : never

export type Call = { [Name in OperationName]: { op: Name; args: OperationArgs<Name> } }[OperationName]

/** A batch of these alone needs no transaction, and so no commit. */
const reads: ReadonlySet<OperationName> = new Set<OperationName>([
  'waitingModels',
  'get',
  'find',
  'eventsAfter',
  'list',
  'count',
  'depths',
  'results',
  'nextDueMs',
  'getDocument',
  'listDocuments',
  'listOpenDocuments',
  'readBlob',
  'getCached',
  'describe',
  'accessRevision',
  'getKey',
  'listKeys',
  'changedKeys',
  'listTenants',
  'listSecrets',
  'sumUsage',
  'usageCosts',
  'usageSpan',
])

export const isRead = (call: Call): boolean => reads.has(call.op)

export const perform = (context: Context, { op, args }: Call): unknown =>
  (operations[op] as (context: Context, ...args: unknown[]) => unknown)(context, ...args)
