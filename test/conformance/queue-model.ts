import type { AttemptOutcome, NewTask } from '../../src/storage/task-store.ts'
import { isFinal, type TaskStatus } from '../../src/storage/task-states.ts'

type ModelTask = Pick<
  NewTask,
  'id' | 'tenant' | 'model' | 'band' | 'cost' | 'createdAtMs' | 'deadlineMs' | 'parent' | 'notify'
> & {
  order: number
  status: TaskStatus
  tag: number | null
  attempt: number
  attemptsEach: number
  attemptsMax: number
  runAtMs: number | null
  readyAtMs: number | null
  leaseUntilMs: number | null
  cancelRequested: boolean
  errorCode: string | null
  result: boolean
  steps: number
  history: TaskStatus[]
  messages: number
}

/** What the store must do, in the plainest way: one list of tasks and no index. For the property test. */
export class QueueModel {
  readonly tasks = new Map<string, ModelTask>()
  readonly #finish = new Map<string, number>()
  readonly #keys = new Map<string, { id: string; fingerprint: string | null }>()
  #order = 0

  submit(task: NewTask): { kind: string; id: string } {
    const key = task.idempotencyKey === null ? null : `${task.tenant} ${task.idempotencyKey}`
    const known = key === null ? undefined : this.#keys.get(key)
    if (known) return { kind: known.fingerprint === task.fingerprint ? 'existing' : 'conflict', id: known.id }
    const status = task.runAtMs !== null && task.runAtMs > task.createdAtMs ? 'delayed' : 'queued'
    const { id, tenant, model, band, cost, createdAtMs, deadlineMs, parent, notify, runAtMs } = task
    this.#order += 1
    this.tasks.set(id, {
      ...{ id, tenant, model, band, cost, createdAtMs, deadlineMs, parent, notify, runAtMs },
      order: this.#order,
      status,
      tag: status === 'queued' ? this.#takeTag(task) : null,
      attempt: 0,
      attemptsEach: task.attemptsMax,
      attemptsMax: task.attemptsMax,
      readyAtMs: status === 'queued' ? createdAtMs : null,
      leaseUntilMs: null,
      cancelRequested: false,
      errorCode: null,
      result: false,
      steps: 0,
      history: [status],
      messages: 0,
    })
    if (key !== null) this.#keys.set(key, { id, fingerprint: task.fingerprint })
    return { kind: 'created', id }
  }

  claim(request: {
    model: string
    nowMs: number
    leaseMs: number
    limit: number
    agedLimit: number
    ageingMs: number
  }): string[] {
    const line = [...this.tasks.values()]
      .filter((task) => task.status === 'queued' && task.model === request.model)
      .sort((a, b) => a.band - b.band || a.tag! - b.tag! || a.order - b.order)
    const urgent = line[0]?.band
    const chosen: ModelTask[] = []
    for (let turn = Math.min(request.agedLimit, request.limit); turn > 0; turn -= 1) {
      const rest = line.filter((task) => task.band !== urgent && !chosen.includes(task))
      const fronts = rest.filter((task, index) => rest[index - 1]?.band !== task.band)
      const aged = fronts
        .filter((task) => task.readyAtMs! <= request.nowMs - request.ageingMs)
        .sort((a, b) => a.readyAtMs! - b.readyAtMs! || a.band - b.band)
      if (aged[0]) chosen.push(aged[0])
    }
    for (const task of line) if (chosen.length < request.limit && !chosen.includes(task)) chosen.push(task)
    for (const task of chosen) {
      task.attempt += 1
      task.leaseUntilMs = request.nowMs + request.leaseMs
      this.#move(task, 'running')
    }
    return chosen.map(({ id }) => id)
  }

  settle(id: string, attempt: number, nowMs: number, outcome: AttemptOutcome): string {
    const task = this.tasks.get(id)
    if (!task || task.status !== 'running' || task.attempt !== attempt) return 'lost'
    if (outcome.kind === 'retry' || outcome.kind === 'dead') task.errorCode = outcome.error.code
    if (outcome.kind === 'expired') task.errorCode = 'expired'
    if (outcome.kind === 'succeeded') task.result = true
    const waits = outcome.kind === 'retry' || outcome.kind === 'released'
    if (waits && task.cancelRequested) return this.#move(task, 'cancelled')
    if (outcome.kind === 'released') {
      task.attemptsMax += 1
      return this.#move(task, 'queued')
    }
    if (outcome.kind !== 'retry') return this.#move(task, outcome.kind)
    task.runAtMs = outcome.runAtMs
    const status = outcome.runAtMs > nowMs ? 'delayed' : 'queued'
    task.readyAtMs = status === 'queued' ? nowMs : null
    return this.#move(task, status)
  }

  renew(id: string, attempt: number, leaseUntilMs: number): string {
    const task = this.tasks.get(id)
    if (!task || task.status !== 'running' || task.attempt !== attempt) return 'lost'
    task.leaseUntilMs = leaseUntilMs
    return task.cancelRequested ? 'cancelled' : 'held'
  }

  saveStep(id: string, attempt: number): boolean {
    const task = this.tasks.get(id)
    if (!task || task.status !== 'running' || task.attempt !== attempt) return false
    task.steps += 1
    return true
  }

  cancel(tenant: string, id: string): void {
    const task = this.tasks.get(id)
    if (!task || task.tenant !== tenant || isFinal(task.status)) return
    if (task.status === 'running') task.cancelRequested = true
    else this.#move(task, 'cancelled')
  }

  requeue(tenant: string, id: string, nowMs: number): boolean {
    const task = this.tasks.get(id)
    if (!task || task.tenant !== tenant || !isFinal(task.status) || task.status === 'succeeded') return false
    if (task.deadlineMs !== null && task.deadlineMs <= nowMs) task.deadlineMs = null
    task.attemptsMax = task.attempt + task.attemptsEach
    task.result = false
    task.readyAtMs = nowMs
    task.tag = this.#takeTag(task)
    this.#move(task, 'queued')
    return true
  }

  remove(tenant: string, id: string): string | null {
    const task = this.tasks.get(id)
    if (!task || task.tenant !== tenant) return null
    if (!isFinal(task.status)) return 'live'
    this.tasks.delete(id)
    for (const [key, known] of this.#keys) if (known.id === id) this.#keys.delete(key)
    return 'removed'
  }

  promote(nowMs: number): string[] {
    const due = this.#where('delayed').filter((task) => task.runAtMs! <= nowMs)
    for (const task of due.sort((a, b) => a.runAtMs! - b.runAtMs! || a.order - b.order)) {
      task.tag ??= this.#takeTag(task)
      task.readyAtMs = nowMs
      this.#move(task, 'queued')
    }
    return due.map(({ id }) => id)
  }

  expire(nowMs: number): string[] {
    const due = this.#where('queued', 'delayed').filter(
      (task) => task.deadlineMs !== null && task.deadlineMs <= nowMs,
    )
    for (const task of due) {
      task.errorCode = 'expired'
      this.#move(task, 'expired')
    }
    return due.map(({ id }) => id)
  }

  rescue(nowMs: number): string[] {
    const due = this.#where('running').filter((task) => task.leaseUntilMs! <= nowMs)
    for (const task of due) {
      task.errorCode = 'worker_lost'
      if (task.cancelRequested) this.#move(task, 'cancelled')
      else if (task.attempt >= task.attemptsMax) this.#move(task, 'dead')
      else {
        task.readyAtMs = nowMs
        this.#move(task, 'queued')
      }
    }
    return due.map(({ id }) => id)
  }

  nextDueMs(): number | null {
    const times = this.#where('delayed', 'queued').flatMap((task) => [
      ...(task.status === 'delayed' ? [task.runAtMs!] : []),
      ...(task.deadlineMs === null ? [] : [task.deadlineMs]),
    ])
    return times.length === 0 ? null : Math.min(...times)
  }

  #where(...statuses: TaskStatus[]): ModelTask[] {
    return [...this.tasks.values()].filter(({ status }) => statuses.includes(status))
  }

  #move(task: ModelTask, status: TaskStatus): TaskStatus {
    task.status = status
    task.history.push(status)
    if (status !== 'running') task.leaseUntilMs = null
    if (status === 'queued' || status === 'delayed') task.cancelRequested = false
    if (isFinal(status) && task.notify) task.messages += 1
    return status
  }

  #takeTag({
    tenant,
    model,
    band,
    cost,
  }: {
    tenant: string
    model: string
    band: number
    cost: number
  }): number {
    const waiting = this.#where('queued').filter((task) => task.model === model && task.band === band)
    const line = `${model} ${band} `
    const finishes = [...this.#finish].filter(([lane]) => lane.startsWith(line)).map(([, finish]) => finish)
    const now = waiting.length > 0 ? Math.min(...waiting.map(({ tag }) => tag!)) : Math.max(0, ...finishes)
    const tag = Math.max(this.#finish.get(line + tenant) ?? 0, now)
    this.#finish.set(line + tenant, tag + cost)
    return tag
  }
}
