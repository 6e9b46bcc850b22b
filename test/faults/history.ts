import type { Store } from '../../src/storage/store.ts'
import type {
  NewTask,
  SettleOutcome,
  Settlement,
  SubmitOutcome,
  TaskDetail,
} from '../../src/storage/task-store.ts'
import { isFinal } from '../../src/storage/task-states.ts'

/** What the check found. */
export type Verdict = {
  /** What must not be: each is a sentence. An empty list is the only good one. */
  violations: string[]
  submitted: number
  acknowledged: number
  /** Submitted without an acknowledgement, and there all the same: allowed, as nobody was told otherwise. */
  unacknowledgedKept: number
  settled: number
  /** Attempts beyond the first: executions that were repeated. Allowed, and counted. */
  duplicates: number
}

type Noted = {
  tenant: string
  acknowledged: boolean
  removed: boolean
  settledAttempts: number[]
  executions: number
}

/**
 * What the outside saw of a store while faults were injected. Each fault suite notes what it did and was told, and lets
 * `check` compare it with what is there afterwards: nothing acknowledged is lost, nothing unexpected appears, one
 * recorded result a task, duplicates counted.
 */
export class History {
  readonly #tasks = new Map<string, Noted>()
  readonly #unexpected: string[] = []

  /** To be called before the submission is sent: from now on it may be there. */
  submitting(tasks: readonly Pick<NewTask, 'id' | 'tenant'>[]): void {
    for (const { id, tenant } of tasks) {
      this.#tasks.set(id, { tenant, acknowledged: false, removed: false, settledAttempts: [], executions: 0 })
    }
  }

  /** The submission was answered: from now on it must be there. */
  acknowledged(outcomes: readonly SubmitOutcome[]): void {
    for (const outcome of outcomes) if (outcome.kind === 'created') this.acknowledgedId(outcome.task.id)
  }

  /** As `acknowledged`, for those who submit through HTTP or another process. */
  acknowledgedId(id: string, tenant = ''): void {
    const task = this.#tasks.get(id)
    if (task) task.acknowledged = true
    else
      this.#tasks.set(id, { tenant, acknowledged: true, removed: false, settledAttempts: [], executions: 0 })
  }

  /** The task was handed to a worker. */
  executing(id: string): void {
    const task = this.#tasks.get(id)
    if (task) task.executions += 1
    else this.#unexpected.push(`${id} was handed out, and nobody submitted it`)
  }

  /** A settlement was answered: with `settled` to a last state it must be there. */
  settled({ id, attempt }: Pick<Settlement, 'id' | 'attempt'>, outcome: SettleOutcome): void {
    if (outcome.kind === 'settled' && isFinal(outcome.status))
      this.#tasks.get(id)?.settledAttempts.push(attempt)
  }

  removed(id: string): void {
    const task = this.#tasks.get(id)
    if (task) task.removed = true
  }

  /** How many submissions were acknowledged so far. */
  get acknowledgedCount(): number {
    return [...this.#tasks.values()].filter(({ acknowledged }) => acknowledged).length
  }

  /** Compares with the store, which must be reachable and quiet; `allEnded` when every task must have come to an end. */
  async check(store: Store, { allEnded = false }: { allEnded?: boolean } = {}): Promise<Verdict> {
    const verdict: Verdict = {
      violations: [...this.#unexpected, ...(await store.maintenance.check())],
      submitted: this.#tasks.size,
      acknowledged: this.acknowledgedCount,
      unacknowledgedKept: 0,
      settled: 0,
      duplicates: 0,
    }
    for (const [id, noted] of this.#tasks) {
      const row = await store.tasks.find(id)
      const detail = row ? await store.tasks.get(row.tenant, id) : null
      verdict.violations.push(...judge(id, noted, detail, allEnded))
      if (detail && !noted.acknowledged) verdict.unacknowledgedKept += 1
      if (noted.settledAttempts.length > 0) verdict.settled += 1
      verdict.duplicates += Math.max(0, noted.executions - 1)
    }
    for (const tenant of new Set([...this.#tasks.values()].map(({ tenant }) => tenant))) {
      verdict.violations.push(...(await this.#findStrangers(store, tenant)))
    }
    return verdict
  }

  /** Tasks of the tenant that nobody submitted. */
  async #findStrangers(store: Store, tenant: string): Promise<string[]> {
    const strangers: string[] = []
    let after: string | undefined
    for (;;) {
      const rows = await store.tasks.list({
        tenant,
        ascending: true,
        limit: 500,
        ...(after ? { after } : {}),
      })
      for (const { id } of rows)
        if (!this.#tasks.has(id)) strangers.push(`${id} is there, and nobody submitted it`)
      if (rows.length < 500) return strangers
      after = rows.at(-1)!.id
    }
  }
}

function judge(id: string, noted: Noted, detail: TaskDetail | null, allEnded: boolean): string[] {
  if (!detail) return noted.acknowledged && !noted.removed ? [`${id} was acknowledged and is lost`] : []
  const wrong: string[] = []
  const { task, history, result } = detail
  if (noted.removed) wrong.push(`${id} was removed and is there again`)
  if (task.tenant !== noted.tenant && noted.tenant !== '') wrong.push(`${id} belongs to ${task.tenant}`)
  const ends = history.filter(({ status }) => isFinal(status))
  const last = history.at(-1)
  if (last?.status !== task.status)
    wrong.push(`${id} is ${task.status}, and its history ends with ${last?.status}`)
  if (history.some(({ seq }, index) => seq !== index + 1)) wrong.push(`${id} has gaps in its history`)
  // Without a requeue, there is one end and one result.
  if (ends.length > 1 && !history.some(({ error }) => error?.code === 'requeued')) {
    wrong.push(`${id} has ended ${ends.length} times`)
  }
  if (noted.settledAttempts.length > 1)
    wrong.push(`${id} was settled by attempts ${noted.settledAttempts.join(', ')}`)
  for (const attempt of noted.settledAttempts) {
    if (!ends.some((end) => end.attempt === attempt)) {
      wrong.push(`${id} was settled in attempt ${attempt}, and its history does not know it`)
    }
  }
  if (task.status === 'succeeded' && result === null) wrong.push(`${id} has succeeded and has no result`)
  if (allEnded && noted.acknowledged && !isFinal(task.status)) wrong.push(`${id} is still ${task.status}`)
  return wrong
}
