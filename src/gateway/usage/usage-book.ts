import type { Clock } from '../../core/clock.ts'
import { makeId } from '../../core/ids.ts'
import type { Service } from '../../core/service.ts'
import type { EndedAttempt } from '../../queue/dispatcher.ts'
import { StoreUnavailable } from '../../storage/store.ts'
import type { UsageBatch, UsageRow, UsageStore } from '../../storage/usage-store.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { RequestRecord } from '../request-record.ts'
import { readUsedTokens } from '../used-tokens.ts'
import { costOf, type PriceTable } from './prices.ts'
import type { UsageMetrics } from './usage-metrics.ts'
import { UsagePages } from './usage-pages.ts'

const flushEveryMs = 1_000
/** Rows in one transaction: some milliseconds of the store. */
const batchRowsMax = 500
/** How long it is tried at the end to write down what is left, and how often. */
const stop = { limitMs: 5_000, retryMs: 250 } as const

export type UsageBookParts = {
  store: Pick<UsageStore, 'add'>
  prices: PriceTable
  metrics: UsageMetrics
  clock: Clock
  log: Logger
}

/** Told of each cost when it arises. */
export type CostListener = (tenant: string, cost: number, wallMs: number) => void

/**
 * Counts what is used, and writes the sums down once a second. A request costs it a few additions. What the storage
 * does not take is kept and given again; rows are sums, so they hardly grow meanwhile. A batch whose fate is not known
 * keeps its number, and the storage applies a number once.
 *
 * What was counted since the last writing is lost when the process is killed: a second of it, usually.
 */
export class UsageBook implements Service {
  readonly name = 'usage'
  readonly #parts: UsageBookParts
  readonly #writer = makeId('usage')
  readonly #pages = new UsagePages()
  #sequence = 0
  /** Taken from the pages and not known to be stored. */
  #waiting: UsageRow[] = []
  /** The first of `waiting`, as they were sent. */
  #batch: UsageBatch | null = null
  #onCost: CostListener | null = null
  /** Reads and writes of usage take turns: what is read is then exact beside what is not written yet. */
  #lane: Promise<unknown> = Promise.resolve()
  #isQueued = false
  #isAway = false
  #isFull = false
  #stopTimer: (() => void) | null = null

  constructor(parts: UsageBookParts) {
    this.#parts = parts
    parts.metrics.watchRows(() => this.rows)
  }

  /** Sums that are not known to be stored. */
  get rows(): number {
    return this.#pages.rows + this.#waiting.length
  }

  /** One listener, who must be quick. */
  onCost(listener: CostListener): void {
    this.#onCost = listener
  }

  /** Counts a request that has ended. It belongs to the hour in which it does. */
  note(record: RequestRecord, durationMs: number): void {
    const { model, caller, status } = record
    // Other routes name models, too, but only these ask one.
    if (model === null || record.method !== 'POST') return
    const isHit = record.cache === 'hit'
    const hasWorked = record.instance !== null && !isHit
    const hasFailed = status >= 400 || record.error !== null
    // Nobody has answered, and nobody has refused: a client that left early, or work that was put into the queue.
    if (!hasWorked && !isHit && (!hasFailed || status === 499)) return
    const wallMs = this.#parts.clock.wallMs()
    const row = this.#pages.row(caller.tenant, caller.keyId ?? '', model, wallMs)
    if (row === null) return this.#noteFull()
    if (hasFailed) row.failedRequests += 1
    else row.requests += 1
    row.busyMs += durationMs
    const used = readUsedTokens(record)
    if (used !== null) this.#charge(row, used.prompt, used.cached, used.completion, wallMs)
  } // prettier-ignore

  /** Counts an attempt at a task that was settled: its end, and not its failures on the way. */
  noteTask({ tenant, keyId, model, outcome, cutUsage, ranMs }: EndedAttempt): void {
    const hasSucceeded = outcome.kind === 'succeeded'
    if (!hasSucceeded && outcome.kind !== 'dead' && cutUsage === null) return
    const wallMs = this.#parts.clock.wallMs()
    const row = this.#pages.row(tenant, keyId ?? '', model, wallMs)
    if (row === null) return this.#noteFull()
    row.busyMs += ranMs
    if (hasSucceeded) row.requests += 1
    else row.failedRequests += 1
    const usage = hasSucceeded ? outcome.usage : cutUsage
    if (usage) this.#charge(row, usage.promptTokens, usage.cachedTokens, usage.completionTokens, wallMs)
  }

  start(): Promise<void> {
    this.#stopTimer ??= this.#parts.clock.every(flushEveryMs, () => void this.#flushSoon())
    return Promise.resolve()
  }

  /** Writes down what is left, as long as the storage can be hoped for. */
  async stop(): Promise<void> {
    this.#stopTimer?.()
    this.#stopTimer = null
    const { clock, log } = this.#parts
    const giveUpAtMs = clock.now() + stop.limitMs
    while (!(await this.flush()) && clock.now() < giveUpAtMs) await clock.sleep(stop.retryMs)
    if (this.rows > 0) log.error({ sums: this.rows }, 'usage could not be stored before the end, and is lost')
  }

  /** Writes down what is counted; false when the storage does not take it, and then it is kept. Never throws. */
  flush(): Promise<boolean> {
    return this.inTurn(() => this.#write())
  }

  /** Runs something while nothing is written. */
  inTurn<T>(run: () => Promise<T>): Promise<T> {
    const turn = this.#lane.then(run)
    this.#lane = turn.catch(() => {})
    return turn
  }

  /** What is counted and not stored. Of a batch whose fate is not known it is taken to be stored. */
  *unsaved(): Generator<UsageRow, void, undefined> {
    yield* this.#waiting.slice(this.#batch?.rows.length ?? 0)
    yield* this.#pages
  }

  async #flushSoon(): Promise<void> {
    if (this.#isQueued) return
    this.#isQueued = true
    await this.flush()
    this.#isQueued = false
  }

  async #write(): Promise<boolean> {
    const { store, clock } = this.#parts
    try {
      for (;;) {
        if (this.#waiting.length === 0) this.#waiting = this.#pages.take()
        if (this.#waiting.length === 0) break
        this.#batch ??= this.#cutBatch(clock.wallMs())
        await store.add(this.#batch)
        this.#waiting.splice(0, this.#batch.rows.length)
        this.#batch = null
      }
      this.#noteStore(null)
      return true
    } catch (thrown) {
      this.#noteStore(thrown)
      return false
    }
  }

  #cutBatch(nowMs: number): UsageBatch {
    this.#sequence += 1
    return {
      ...{ writer: this.#writer, sequence: this.#sequence, nowMs },
      rows: this.#waiting.slice(0, batchRowsMax),
    }
  }

  #charge(row: UsageRow, prompt: number, cached: number, completion: number, wallMs: number): void {
    row.promptTokens += prompt
    row.cachedTokens += cached
    row.completionTokens += completion
    const cost = costOf(this.#parts.prices.of(row.model), prompt, cached, completion)
    if (cost === 0) return
    row.cost += cost
    this.#parts.metrics.charge(row.model, cost)
    this.#onCost?.(row.tenant, cost, wallMs)
  }

  #noteFull(): void {
    this.#parts.metrics.dropped()
    if (this.#isFull) return
    this.#isFull = true
    this.#parts.log.error({ sums: this.rows }, 'usage is not counted: too many sums wait for the storage')
  }

  /** Says once that the storage is away, and once that it is back. */
  #noteStore(thrown: unknown): void {
    const { metrics, log } = this.#parts
    if (thrown === null) {
      if (this.#isAway) log.info('usage is stored again')
      this.#isAway = false
      this.#isFull = false
      return
    }
    metrics.failed()
    if (this.#isAway) return
    this.#isAway = true
    if (thrown instanceof StoreUnavailable) log.warn({ reason: thrown.message }, 'usage is kept: the storage is away')
    else log.error({ err: thrown }, 'storing usage failed; it is kept and tried again')
  } // prettier-ignore
}
