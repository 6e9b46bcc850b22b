import { Batcher } from '../batcher.ts'
import { StoreUnavailable, type Wake } from '../store.ts'
import type {
  ClaimedTask,
  ClaimRequest,
  LeaseState,
  MovedTask,
  NewTask,
  QueueLimits,
  SettleOutcome,
  Settlement,
  SubmitOutcome,
  TaskFilter,
  TaskStep,
  TaskStore,
} from '../task-store.ts'
import { claim } from './claim.ts'
import type { Database } from './database.ts'
import { expire, nextDueMs, promote, rescue, type Swept } from './due.ts'
import { cancel, remove, requeue } from './hand.ts'
import { eventsAfter, find, get, list, results, waitingModels } from './read-tasks.ts'
import { isSuccess, renewAll, saveStep, settleAll, type Lease } from './settle.ts'
import { submitAll, type SubmitCall } from './submit.ts'
import type { Tallies } from './tallies.ts'
import { splitByBytes } from './values.ts'
import type { WakeLine } from './wakes.ts'

/** A transaction carries no more than this, unless one call alone has more. */
const batchBytesMax = 16_777_216
/** What a task weighs beside its bytes, so that the number of rows has an end as well. */
const rowBytes = 8_192
const waitingMax = 20_000

/** The answer to one call of a batch: another call's failure is not its own. */
type Answer<T> = { value: T } | { error: unknown }

export class PostgresTasks implements TaskStore {
  readonly #database: Database
  readonly #tallies: Tallies
  readonly #wakes: WakeLine
  readonly #submits: Batcher<SubmitCall, Answer<SubmitOutcome[]>>
  readonly #successes: Batcher<Settlement, Answer<SettleOutcome>>
  readonly #otherEnds: Batcher<Settlement, Answer<SettleOutcome>>
  readonly #claims: Batcher<ClaimRequest, Answer<ClaimedTask[]>>
  readonly #renewals: Batcher<Lease, LeaseState>

  constructor(database: Database, tallies: Tallies, wakes: WakeLine) {
    this.#database = database
    this.#tallies = tallies
    this.#wakes = wakes
    this.#submits = new Batcher({ run: (calls) => this.#submitBatch(calls), batchMax: 2_000, waitingMax })
    const settles = { run: (batch: Settlement[]) => this.#settleBatch(batch), batchMax: 2_000, waitingMax }
    this.#successes = new Batcher(settles)
    this.#otherEnds = new Batcher(settles)
    this.#claims = new Batcher({ run: (requests) => this.#claimBatch(requests), batchMax: 100, waitingMax })
    this.#renewals = new Batcher({
      run: (batch) => renewAll(this.#database, batch),
      batchMax: 2_000,
      waitingMax,
    })
  }

  async submit(tasks: readonly NewTask[], limits: QueueLimits): Promise<SubmitOutcome[]> {
    return tasks.length === 0 ? [] : open(await this.#submits.add({ tasks, limits }))
  }

  async claim(request: ClaimRequest): Promise<ClaimedTask[]> {
    return open(await this.#claims.add(request))
  }

  waitingModels(): Promise<string[]> {
    return waitingModels(this.#database)
  }

  renew(leases: readonly { id: string; attempt: number }[], leaseUntilMs: number): Promise<LeaseState[]> {
    return Promise.all(
      leases.map(({ id, attempt }) => this.#renewals.add({ id, attempt, untilMs: leaseUntilMs })),
    )
  }

  async settle(settlements: readonly Settlement[]): Promise<SettleOutcome[]> {
    const answers = await Promise.all(
      settlements.map((settlement) =>
        isSuccess(settlement) ? this.#successes.add(settlement) : this.#otherEnds.add(settlement),
      ),
    )
    return answers.map(open)
  }

  saveStep(id: string, attempt: number, step: TaskStep): Promise<boolean> {
    return saveStep(this.#database, { id, attempt, step })
  }

  async cancel(tenant: string, id: string, nowMs: number) {
    return this.#toldByHand(await cancel(this.#database, { tenant, id, nowMs }))
  }

  async requeue(tenant: string, id: string, nowMs: number) {
    return this.#toldByHand(await requeue(this.#database, { tenant, id, nowMs }))
  }

  async remove(tenant: string, id: string): Promise<'removed' | 'live' | null> {
    const removed = await remove(this.#database, tenant, id)
    if (removed === 'removed') this.#tallies.note()
    return removed
  }

  get(tenant: string, id: string) {
    return get(this.#database, tenant, id)
  }

  find(id: string) {
    return find(this.#database, id)
  }

  eventsAfter(id: string, seq: number) {
    return eventsAfter(this.#database, id, seq)
  }

  list(filter: TaskFilter) {
    return list(this.#database, filter)
  }

  count(tenant: string, parent?: string) {
    return this.#tallies.count(tenant, parent)
  }

  depths() {
    return this.#tallies.depths()
  }

  results(parent: string, afterPosition: number, limit: number) {
    return results(this.#database, { parent, afterPosition, limit })
  }

  async promote(nowMs: number, limit: number): Promise<MovedTask[]> {
    return this.#toldSwept(await promote(this.#database, nowMs, limit))
  }

  async expire(nowMs: number, limit: number): Promise<MovedTask[]> {
    return this.#toldSwept(await expire(this.#database, nowMs, limit))
  }

  async rescue(nowMs: number, limit: number): Promise<MovedTask[]> {
    return this.#toldSwept(await rescue(this.#database, nowMs, limit))
  }

  nextDueMs(): Promise<number | null> {
    return nextDueMs(this.#database)
  }

  /** Claims for one model take turns here: at the same moment they would only step over each other's rows. */
  #claimBatch(requests: ClaimRequest[]): Promise<Answer<ClaimedTask[]>[]> {
    const groups = groupClaims(requests)
    const answers = groups.map((group) =>
      this.#claimTogether(group).then(
        (value) => ({ value }),
        (error: unknown) => ({ error }),
      ),
    )
    return Promise.all(
      requests.map(async (request) => {
        const index = groups.findIndex((group) => group.includes(request))
        const answer = await answers[index]!
        return 'error' in answer ? answer : { value: answer.value.get(request) ?? [] }
      }),
    )
  }

  /** One claim for several callers who want the same, each given its part in turn. */
  async #claimTogether(group: readonly ClaimRequest[]): Promise<Map<ClaimRequest, ClaimedTask[]>> {
    const sum = (of: (request: ClaimRequest) => number) =>
      group.reduce((total, request) => total + of(request), 0)
    const claimed = await claim(this.#database, {
      ...group[0]!,
      nowMs: Math.max(...group.map(({ nowMs }) => nowMs)),
      limit: sum(({ limit }) => Math.max(0, limit)),
      agedLimit: sum(({ agedLimit, limit }) => Math.max(0, Math.min(agedLimit, limit))),
    })
    if (claimed.length > 0) {
      this.#tallies.note()
      this.#wakes.tell(claimed.map(({ task: { id, parent } }) => ({ kind: 'changed', id, parent })))
    }
    let from = 0
    return new Map(
      group.map((request) => {
        const part = claimed.slice(from, from + Math.max(0, request.limit))
        from += part.length
        return [request, part]
      }),
    )
  }

  async #submitBatch(calls: SubmitCall[]): Promise<Answer<SubmitOutcome[]>[]> {
    const bytesOf = ({ tasks }: SubmitCall) =>
      tasks.reduce((sum, { payload }) => sum + payload.byteLength + rowBytes, 0)
    return this.#inParts(splitByBytes(calls, bytesOf, batchBytesMax), async (part) => {
      const outcomes = await submitAll(this.#database, part)
      const models = new Set<string>()
      for (const outcome of outcomes.flat()) {
        if (outcome.kind === 'created' && outcome.task.status === 'queued') models.add(outcome.task.model)
      }
      this.#tallies.note()
      this.#wakes.tell([...models].map((model): Wake => ({ kind: 'ready', model })))
      return outcomes
    })
  }

  async #settleBatch(batch: Settlement[]): Promise<Answer<SettleOutcome>[]> {
    const bytesOf = ({ outcome }: Settlement) =>
      rowBytes + ('result' in outcome ? (outcome.result?.byteLength ?? 0) : 0)
    return this.#inParts(splitByBytes(batch, bytesOf, batchBytesMax), async (part) => {
      const { outcomes, wakes } = await settleAll(this.#database, part)
      this.#tallies.note()
      this.#wakes.tell(wakes)
      return outcomes
    })
  }

  /**
   * One transaction after another; those that were committed are answered so, whatever becomes of the rest. What fails
   * through a fault of one call is run again call by call, and harms no other.
   */
  async #inParts<In, Out>(
    parts: readonly In[][],
    run: (part: In[]) => Promise<Out[]>,
  ): Promise<Answer<Out>[]> {
    const answers: Answer<Out>[] = []
    const left = [...parts]
    for (let part = left.shift(); part; part = left.shift()) {
      try {
        answers.push(...(await run(part)).map((value) => ({ value })))
      } catch (error) {
        if (error instanceof StoreUnavailable) {
          // With the server away, the rest of a large batch does not wait for it again.
          return [...answers, ...[part, ...left].flat().map(() => ({ error }))]
        }
        if (part.length === 1) answers.push({ error })
        else left.unshift(...part.map((item) => [item]))
      }
    }
    return answers
  }

  #toldByHand<T>({ result, wakes }: { result: T; wakes: Wake[] }): T {
    if (wakes.length > 0) this.#tallies.note()
    this.#wakes.tell(wakes)
    return result
  }

  #toldSwept({ moved, wakes }: Swept): MovedTask[] {
    if (moved.length > 0) this.#tallies.note()
    this.#wakes.tell(wakes)
    return moved
  }
}

function open<T>(answer: Answer<T>): T {
  if ('error' in answer) throw answer.error
  return answer.value
}

/** Those that can be one claim: for the same model, owner and terms. */
function groupClaims(requests: readonly ClaimRequest[]): ClaimRequest[][] {
  const groups = new Map<string, ClaimRequest[]>()
  for (const request of requests) {
    const key = JSON.stringify([request.model, request.owner, request.leaseMs, request.ageingMs])
    const group = groups.get(key)
    if (group) group.push(request)
    else groups.set(key, [request])
  }
  return [...groups.values()]
}
