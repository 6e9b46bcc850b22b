import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import type { Store } from '../../src/storage/store.ts'
import type { AttemptOutcome, NewTask } from '../../src/storage/task-store.ts'
import { finalStatuses, taskStatuses } from '../../src/storage/task-states.ts'
import { QueueModel } from './queue-model.ts'
import type { WithStore } from './store.ts'
import { bytes, failure, newTask, noLimits, startMs } from './tasks.ts'

const tenants = ['a', 'b', 'c']
const models = ['m', 'n']
const steps = 250

/** Mulberry32: the same numbers for the same seed everywhere. */
function seedRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Does the same to a store and to the model, and compares every answer. */
class Walk {
  readonly store: Store
  readonly model = new QueueModel()
  readonly log: string[] = []
  readonly #random: () => number
  #nowMs = startMs

  constructor(store: Store, seed: number) {
    this.store = store
    this.#random = seedRandom(seed)
  }

  async step(): Promise<void> {
    this.#nowMs += this.#below(40)
    const actions = ['submit', 'submit', 'claim', 'claim', 'claim', 'settle', 'settle', 'settle', 'renew', 'saveStep', 'cancel', 'requeue', 'remove', 'promote', 'expire', 'rescue'] as const // prettier-ignore
    const action = this.#pick(actions)
    this.log.push(`${this.#nowMs - startMs} ${action}`)
    await this[action]()
  }

  async submit(): Promise<void> {
    const tasks = Array.from({ length: 1 + this.#below(4) }, () => this.#makeTask())
    const outcomes = await this.store.tasks.submit(tasks, noLimits)
    const actual = outcomes.map((outcome) => ({
      kind: outcome.kind,
      id: 'task' in outcome ? outcome.task.id : 'id' in outcome ? outcome.id : '',
    }))
    assert.deepEqual(
      actual,
      tasks.map((task) => this.model.submit(task)),
    )
  }

  async claim(): Promise<void> {
    const limit = 1 + this.#below(4)
    const request = {
      model: this.#pick(models),
      nowMs: this.#nowMs,
      leaseMs: 20 + this.#below(200),
      limit,
      agedLimit: this.#below(limit + 1),
      ageingMs: this.#below(300),
    }
    const tasks = await this.store.tasks.claim({ ...request, owner: 'w' })
    assert.deepEqual(
      tasks.map(({ task }) => task.id),
      this.model.claim(request),
    )
    for (const { task, steps } of tasks) assert.equal(steps.length, this.model.tasks.get(task.id)!.steps)
  }

  async settle(): Promise<void> {
    const { id, attempt } = this.#pickAttempt()
    const outcome = this.#pick<AttemptOutcome>([
      { kind: 'succeeded', result: bytes(`${id} ${attempt}`), usage: null },
      { kind: 'dead', error: failure },
      { kind: 'retry', error: failure, runAtMs: this.#nowMs + this.#below(100) - 20 },
      { kind: 'released' },
      { kind: 'cancelled' },
      { kind: 'expired' },
    ])
    this.log.push(`  ${id} ${attempt} ${outcome.kind}`)
    const [answer] = await this.store.tasks.settle([
      { id, attempt, nowMs: this.#nowMs, instance: null, outcome },
    ])
    const status = answer?.kind === 'settled' ? answer.status : 'lost'
    assert.equal(status, this.model.settle(id, attempt, this.#nowMs, outcome))
  }

  async renew(): Promise<void> {
    const { id, attempt } = this.#pickAttempt()
    const untilMs = this.#nowMs + 100
    const [state] = await this.store.tasks.renew([{ id, attempt }], untilMs)
    assert.equal(state, this.model.renew(id, attempt, untilMs))
  }

  async saveStep(): Promise<void> {
    const { id, attempt } = this.#pickAttempt()
    const step = { step: this.model.tasks.get(id)?.steps ?? 0, attempt, result: bytes('s') }
    assert.equal(await this.store.tasks.saveStep(id, attempt, step), this.model.saveStep(id, attempt))
  }

  async cancel(): Promise<void> {
    const { id, tenant } = this.#pickTask()
    await this.store.tasks.cancel(tenant, id, this.#nowMs)
    this.model.cancel(tenant, id)
  }

  async requeue(): Promise<void> {
    const { id, tenant } = this.#pickTask((status) => status !== 'succeeded' && finalStatuses.includes(status as never)) // prettier-ignore
    const answer = await this.store.tasks.requeue(tenant, id, this.#nowMs)
    assert.equal(answer?.moved ?? false, this.model.requeue(tenant, id, this.#nowMs))
  }

  async remove(): Promise<void> {
    const { id, tenant } = this.#pickTask()
    assert.equal(await this.store.tasks.remove(tenant, id), this.model.remove(tenant, id))
  }

  promote = () => this.#compareMoved('promote')
  expire = () => this.#compareMoved('expire')
  rescue = () => this.#compareMoved('rescue')

  /** Everything that can be read, against the model. */
  async compare(): Promise<void> {
    const tasks = [...this.model.tasks.values()]
    const detail = await Promise.all(tasks.map(({ tenant, id }) => this.store.tasks.get(tenant, id)))
    for (const [index, task] of tasks.entries()) {
      const found = detail[index]
      assert(found, `${task.id} is lost`)
      const { attempt, attemptsMax, runAtMs, deadlineMs, cancelRequested, status } = found.task
      const { order: _, tag: __, ...expected } = task
      assert.deepEqual(
        {
          ...expected,
          ...{ attempt, attemptsMax, runAtMs, deadlineMs, status },
          cancelRequested: found.task.finishedAtMs === null && cancelRequested,
          errorCode: found.task.error?.code ?? null,
          result: found.result !== null,
          steps: found.steps.length,
          history: found.history.map((event) => event.status),
        },
        { ...expected, cancelRequested: task.cancelRequested && status === 'running' },
      )
    }
    for (const tenant of tenants) {
      const own = tasks.filter((task) => task.tenant === tenant)
      const listed = await this.store.tasks.list({ tenant, limit: 10_000, ascending: true })
      assert.deepEqual(
        listed.map(({ id }) => id),
        own.map(({ id }) => id).sort(),
      )
      const counts = Object.fromEntries(taskStatuses.map((status) => [status, own.filter((task) => task.status === status).length])) // prettier-ignore
      assert.deepEqual(await this.store.tasks.count(tenant), counts)
      const inBatch = own.filter(({ parent }) => parent === 'batch')
      const queued = inBatch.filter(({ status }) => status === 'queued').length
      assert.equal((await this.store.tasks.count(tenant, 'batch')).queued, queued)
    }
    assert.equal(await this.store.tasks.nextDueMs(), this.model.nextDueMs())
    const waiting = new Set(tasks.filter(({ status }) => status === 'queued').map(({ model }) => model))
    assert.deepEqual((await this.store.tasks.waitingModels()).sort(), [...waiting].sort())
  }

  /** One message for each last state that was asked to be told, counting those that were requeued and ended again. */
  async compareMessages(): Promise<void> {
    const messages = await this.store.outbox.claim(this.#nowMs + 1e9, 1000, 10_000)
    const expected = [...this.model.tasks.values()].flatMap(({ id, messages }) =>
      Array.from({ length: messages }, () => id),
    )
    assert.deepEqual(messages.map(({ taskId }) => taskId).sort(), expected.sort())
  }

  async #compareMoved(action: 'promote' | 'expire' | 'rescue'): Promise<void> {
    const moved = await this.store.tasks[action](this.#nowMs, 10_000)
    const expected = this.model[action](this.#nowMs)
    assert.deepEqual(moved.map(({ id }) => id).sort(), expected.sort())
    for (const { id, status } of moved) assert.equal(status, this.model.tasks.get(id)?.status)
  }

  #makeTask(): NewTask {
    const keyed = this.#below(6) === 0
    return newTask({
      tenant: this.#pick(tenants),
      model: this.#pick(models),
      band: this.#pick([0, 50, 100]),
      cost: 1 + this.#below(9),
      createdAtMs: this.#nowMs,
      runAtMs: this.#below(4) === 0 ? this.#nowMs + this.#below(200) - 20 : null,
      deadlineMs: this.#below(5) === 0 ? this.#nowMs + 50 + this.#below(500) : null,
      attemptsMax: 1 + this.#below(3),
      parent: this.#below(3) === 0 ? 'batch' : null,
      position: null,
      notify: this.#below(3) === 0,
      idempotencyKey: keyed ? `key${this.#below(5)}` : null,
      fingerprint: keyed ? `print${this.#below(2)}` : null,
    })
  }

  /** Mostly one that runs, in the attempt that runs; now and then one of the past. */
  #pickAttempt(): { id: string; attempt: number } {
    const { id, attempt } = this.#pickTask((status) => status === 'running')
    return { id, attempt: this.#below(5) === 0 ? attempt - 1 : attempt }
  }

  #pickTask(preferred: (status: string) => boolean = () => true): {
    id: string
    tenant: string
    attempt: number
  } {
    const all = [...this.model.tasks.values()]
    const some = all.filter(({ status }) => preferred(status))
    if (all.length === 0) return { id: 'task_none', tenant: 'a', attempt: 0 }
    return this.#pick(some.length > 0 && this.#below(6) > 0 ? some : all)
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit)
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#below(from.length)] as T
  }
}

export function describeProperties(withStore: WithStore): void {
  describe('against a plain model', () => {
    const given = process.env['TEST_SEED']
    const seeds = given ? [Number(given)] : [1, 2, 3, 317_236_294, Math.floor(Math.random() * 1e9)]
    for (const seed of seeds) {
      it(
        `answers and keeps the same, whatever is asked (TEST_SEED=${seed})`,
        withStore(async (store) => {
          const walk = new Walk(store, seed)
          try {
            for (let step = 1; step <= steps; step += 1) {
              await walk.step()
              if (step % 50 === 0) await walk.compare()
            }
            await walk.compareMessages()
            assert.deepEqual(await store.maintenance.check(), [])
          } catch (error) {
            throw new Error(`TEST_SEED=${seed}: after ${walk.log.slice(-12).join('; ')}`, { cause: error })
          }
        }),
      )
    }
  })
}
