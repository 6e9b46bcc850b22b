import { after, before } from 'node:test'
import pino from 'pino'
import type { Caller } from '../../../src/gateway/auth/caller.ts'
import { nobody } from '../../../src/gateway/auth/caller.ts'
import type { RequestRecord } from '../../../src/gateway/request-record.ts'
import { Budgets } from '../../../src/gateway/usage/budgets.ts'
import { PriceTable } from '../../../src/gateway/usage/prices.ts'
import { UsageBook } from '../../../src/gateway/usage/usage-book.ts'
import { UsageMetrics } from '../../../src/gateway/usage/usage-metrics.ts'
import { StoreUnavailable } from '../../../src/storage/store.ts'
import type { DayCost, UsageBatch, UsageStore, UsageSum } from '../../../src/storage/usage-store.ts'
import { MetricsRegistry } from '../../../src/telemetry/metrics.ts'
import { Folder, TestStore } from '../../helpers/sqlite.ts'
import { JumpyClock } from '../../queue/harness.ts'

/** What becomes of a write: done; not done and told so; done, and yet told that it was not. */
export type Fate = 'done' | 'refused' | 'unknown'

/** A store between a test and a real one: it fails as it is told, and waits while it is held. */
export class FaultyStore implements UsageStore {
  readonly #inner: UsageStore
  /** Of the next writes, in order; then all are done. */
  readonly fates: Fate[] = []
  isAway = false
  readonly batches: UsageBatch[] = []
  reads = 0
  #held: Promise<void> | null = null
  #release = () => {}

  constructor(inner: UsageStore) {
    this.#inner = inner
  }

  hold(): void {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#held = promise
    this.#release = () => {
      this.#held = null
      resolve()
    }
  }

  release(): void {
    this.#release()
  }

  async add(batch: UsageBatch): Promise<void> {
    this.batches.push(structuredClone(batch))
    const fate = this.isAway ? 'refused' : (this.fates.shift() ?? 'done')
    await this.#held
    if (fate !== 'refused') await this.#inner.add(batch)
    if (fate !== 'done') throw new StoreUnavailable('away')
  }

  sum(query: Parameters<UsageStore['sum']>[0]): Promise<UsageSum[]> {
    return this.#inner.sum(query)
  }

  async costs(tenants: readonly string[], fromMs: number): Promise<DayCost[]> {
    this.reads += 1
    await this.#held
    if (this.isAway) throw new StoreUnavailable('away')
    return this.#inner.costs(tenants, fromMs)
  }
}

export const prices = {
  m: { input: 10, cached: 1, output: 100 },
  cheap: { input: 1, cached: 0, output: 2 },
}

/** The counting side of one process over a store. */
export class Counting {
  readonly clock: JumpyClock
  readonly store: FaultyStore
  readonly metrics = new MetricsRegistry()
  readonly book: UsageBook
  readonly budgets: Budgets

  constructor(store: UsageStore, clock = new JumpyClock()) {
    this.clock = clock
    this.store = new FaultyStore(store)
    const shared = { store: this.store, clock, log: pino({ level: 'silent' }) }
    const table = new PriceTable(() => prices)
    this.book = new UsageBook({ ...shared, prices: table, metrics: new UsageMetrics(this.metrics) })
    this.budgets = new Budgets({ ...shared, book: this.book })
  }

  /** A request that has ended: of the tenant `acme`, with 100 tokens of a prompt and 10 of an answer by `m`. */
  note(more: RecordFields = {}, durationMs = 5): void {
    this.book.note(makeRecord(more), durationMs)
  }

  /** All that is stored, in the form of `tenant/key/model requests failed prompt cached completion cost`. */
  async stored(query: Partial<Parameters<UsageStore['sum']>[0]> = {}): Promise<string[]> {
    const sums = await this.store.sum({
      ...{ fromMs: 0, toMs: Number.MAX_SAFE_INTEGER, width: 'all', groups: ['tenant', 'key', 'model'], limit: 1000 },
      ...query,
    })
    return sums.map(
      ({ tenant, key, model, ...sum }) =>
        `${tenant}/${key}/${model} ${sum.requests} ${sum.failedRequests} ${sum.promptTokens} ${sum.cachedTokens} ${sum.completionTokens} ${Number(sum.cost.toPrecision(12))}`,
    )
  } // prettier-ignore
}

export type RecordFields = Partial<RequestRecord> & { tenant?: string; keyId?: string | null }

export function makeRecord(more: RecordFields = {}): RequestRecord {
  const { tenant = 'acme', keyId = 'k1', ...fields } = more
  const caller: Caller = { ...nobody, tenant, keyId }
  return {
    ...{ id: 'r', method: 'POST', endpoint: '/v1/chat/completions', startedAtMs: 0, caller, pass: null, status: 200 },
    ...{ model: 'm', instance: 'i', attempts: 1, stream: false, promptTokens: 100, cachedTokens: 40 },
    ...{ completionTokens: 10, ttftMs: 1, error: null, cache: 'bypass', cacheAgeMs: null, prompt: undefined },
    ...{ done: true, onAbandoned: null, promptEstimate: 0, events: 0 },
    ...fields,
  }
} // prettier-ignore

/** For a file of tests: opens countings, each on an empty store of its own. */
export function useCountings() {
  let folder: Folder
  before(async () => {
    folder = await Folder.make()
  })
  after(() => folder[Symbol.asyncDispose]())
  let databases = 0
  return async () => {
    const store = await TestStore.open(`${folder.path}/${(databases += 1)}.db`)
    const counting = new Counting(store.usage)
    return Object.assign(counting, {
      inner: store.usage,
      beside: () => new Counting(store.usage, counting.clock),
      [Symbol.asyncDispose]: () => store.stop(),
    })
  }
}
