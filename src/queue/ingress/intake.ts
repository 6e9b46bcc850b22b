import type { Clock } from '../../core/clock.ts'
import { ApiError, toApiError } from '../../core/errors.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { Queue, Submitted } from '../queue.ts'
import type { TaskSpec } from '../task.ts'
import { readMessage, type Incoming, type MessageRules } from './message.ts'
import { judge, type Verdict } from './verdict.ts'

/** One delivery of a message, and what can be done with it. None of these may throw because the connection is gone. */
export type Delivery = {
  readonly incoming: Incoming
  /** It has been delivered as often as is allowed. */
  readonly isLast: boolean
  /** The broker may forget it. */
  accept(): void
  /** To the dead letters, with the reason on it. */
  bury(error: ApiError): Promise<void>
  /** To be delivered again. */
  giveBack(): void
}

type IntakeParts = {
  queue: Pick<Queue, 'submitAll'>
  clock: Clock
  log: Logger
  rules: () => Omit<MessageRules, 'nowMs'>
  count: (kind: Verdict['kind']) => void
}

const batchMax = 512

/**
 * Brings messages into the queue: those that come while a batch is being committed make the next one. It holds what
 * the broker hands over before an acknowledgement, so the prefetch of the source is its bound: where nothing can be
 * stored, the broker keeps the rest.
 */
export class Intake {
  readonly #parts: IntakeParts
  readonly #held = new Set<Delivery>()
  readonly #timers = new Set<() => void>()
  readonly #roomWaiters: (() => void)[] = []
  #arrived: Delivery[] = []
  #work: Promise<void> | null = null
  #closed = false
  #complained = false

  constructor(parts: IntakeParts) {
    this.#parts = parts
  }

  /** Messages that were neither stored nor given up. */
  get size(): number {
    return this.#held.size
  }

  /** All of these. */
  get deliveries(): Iterable<Delivery> {
    return this.#held
  }

  take(delivery: Delivery): void {
    if (this.#closed) return
    this.#held.add(delivery)
    this.#arrive(delivery)
  }

  /** Resolves when a message has left, or when it is closed. */
  left(): Promise<void> {
    if (this.#closed) return Promise.resolve()
    return new Promise((resolve) => this.#roomWaiters.push(resolve))
  }

  /** Lets the batch under way be settled and forgets the rest, which the broker delivers again. */
  async close(): Promise<void> {
    this.#closed = true
    for (const cancel of this.#timers) cancel()
    this.#timers.clear()
    this.#arrived = []
    await this.#work
    this.#held.clear()
    this.#tellRoom()
  }

  #arrive(delivery: Delivery): void {
    this.#arrived.push(delivery)
    this.#work ??= this.#submitArrived()
  }

  async #submitArrived(): Promise<void> {
    // What the broker has just sent in one piece arrives in one turn of the loop: it makes one batch.
    await new Promise((resolve) => setImmediate(resolve))
    try {
      while (this.#arrived.length > 0) await this.#submit(this.#arrived.splice(0, batchMax))
    } finally {
      // In the same turn as the last look: what arrives from here on finds nobody at work.
      this.#work = null
    }
  }

  async #submit(deliveries: readonly Delivery[]): Promise<void> {
    const { queue, rules, clock } = this.#parts
    const now = { ...rules(), nowMs: clock.wallMs() }
    const read = deliveries.map((delivery) => readOrError(delivery.incoming, now))
    const specs = read.filter((spec): spec is TaskSpec => !(spec instanceof ApiError))
    const outcomes = await this.#ask(queue, specs)
    let next = 0
    const errors = read.map((spec) => (spec instanceof ApiError ? spec : (outcomes[next++] ?? null)))
    await Promise.all(deliveries.map((delivery, index) => this.#settle(delivery, errors[index] ?? null)))
    this.#tellRoom()
  }

  /** For each, the error, or null for a task that is stored. */
  async #ask(queue: Pick<Queue, 'submitAll'>, specs: readonly TaskSpec[]): Promise<(ApiError | null)[]> {
    if (specs.length === 0) return []
    try {
      const outcomes: (Submitted | ApiError)[] = await queue.submitAll(specs)
      return outcomes.map((outcome) => (outcome instanceof ApiError ? outcome : null))
    } catch (thrown) {
      if (!(thrown instanceof ApiError)) this.#parts.log.error({ err: thrown }, 'submitting tasks failed')
      return specs.map(() => toApiError(thrown))
    }
  }

  async #settle(delivery: Delivery, error: ApiError | null): Promise<void> {
    const verdict = judge(error, delivery.isLast)
    this.#parts.count(verdict.kind)
    this.#complain(verdict, error)
    switch (verdict.kind) {
      case 'accept':
        delivery.accept()
        break
      case 'bury':
        // Only one with an error is buried.
        await delivery.bury(error as ApiError)
        break
      case 'hold':
        return this.#after(verdict.delayMs, () => this.#arrive(delivery))
      case 'give_back':
        return this.#after(verdict.delayMs, () => {
          this.#held.delete(delivery)
          delivery.giveBack()
          this.#tellRoom()
        })
    }
    this.#held.delete(delivery)
  }

  /** Once for each time that the queue takes no more; a buried message each time, for each is lost work to someone. */
  #complain(verdict: Verdict, error: ApiError | null): void {
    const { log } = this.#parts
    if (verdict.kind === 'bury') log.warn({ code: error?.code, param: error?.param }, 'message refused')
    if (verdict.kind === 'hold' && !this.#complained) {
      log.warn({ code: error?.code }, 'messages wait: the queue takes no tasks now')
    }
    if (verdict.kind === 'accept' && this.#complained) log.info('messages are taken again')
    if (verdict.kind === 'hold' || verdict.kind === 'accept') this.#complained = verdict.kind === 'hold'
  }

  #after(delayMs: number, run: () => void): void {
    if (this.#closed) return
    const cancel = this.#parts.clock.after(delayMs, () => {
      this.#timers.delete(cancel)
      run()
    })
    this.#timers.add(cancel)
  }

  #tellRoom(): void {
    for (const resolve of this.#roomWaiters.splice(0)) resolve()
  }
}

function readOrError(incoming: Incoming, rules: MessageRules): TaskSpec | ApiError {
  try {
    return readMessage(incoming, rules)
  } catch (thrown) {
    return toApiError(thrown)
  }
}
