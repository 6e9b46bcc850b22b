import { lookup } from 'node:dns/promises'
import { LruMap } from '../../core/bounded.ts'
import type { Clock } from '../../core/clock.ts'
import type { Service } from '../../core/service.ts'
import { StoreUnavailable, type OutboxMessage, type Store } from '../../storage/store.ts'
import type { TaskRow } from '../../storage/task-store.ts'
import { isFinal } from '../../storage/task-states.ts'
import type { Logger } from '../../telemetry/log.ts'
import { readPayload } from '../task.ts'
import { Lanes } from './lanes.ts'
import { buildMessage, signMessage } from './message.ts'
import { postMessage } from './post.ts'
import type { WebhookSettings } from './settings.ts'
import type { Resolve } from './target.ts'
import { judge, type Verdict } from './verdict.ts'

const pollMs = 1_000
const claimMax = 64
/** While some line is nearly full, this many are taken at each poll to find those of other hosts behind. */
const searchMax = 256
const lanes = { activeMax: 32, laneActiveMax: 8, laneWaitingMax: 64, heldMax: 256 }
/** A message waits for at most 64 / 8 others, each within the time of a delivery; then comes its own, and its end. */
const leaseDeliveries = lanes.laneWaitingMax / lanes.laneActiveMax + 3
const laneRoomMin = lanes.laneWaitingMax / 2
const postponeMs = 2_000
const postponeMsMax = 60_000
const stopGraceMs = 2_000

/** A storage that is away is the operator's matter, not a fault of the program: its reason, without a stack. */
const describeFault = (error: unknown) =>
  error instanceof StoreUnavailable ? { reason: error.message } : { err: error }

export type SenderParts = {
  store: Pick<Store, 'outbox' | 'tasks' | 'onWake'>
  clock: Clock
  settings: () => WebhookSettings
  log: Logger
  /** What came of each delivery, for metrics. */
  count?: (kind: Verdict['kind']) => void
  resolve?: Resolve
  random?: () => number
}

type Item = { message: OutboxMessage; task: TaskRow; url: string; leaseUntilMs: number }

/**
 * Tells the receivers of webhooks about tasks that have ended. The messages wait in the store, written in the same
 * step as the end they tell of: one that was not settled, because this process died or the store was away, comes again
 * with the same id. Without a secret none is taken; they wait until there is one.
 */
export class WebhookSender implements Service {
  readonly name = 'webhooks'
  readonly #parts: SenderParts
  readonly #resolve: Resolve
  readonly #random: () => number
  readonly #lanes = new Lanes<Item>(lanes)
  readonly #underWay = new Set<Promise<void>>()
  /** How often a message was put back because its host's line was full: these were no deliveries. */
  readonly #postponed = new LruMap<string, number>(65_536)
  #stopping = new AbortController()
  #running = false
  #filling: Promise<void> | null = null
  #again = false
  #searchLeft = 0
  #storeFailed = false
  #release: () => void = () => {}

  constructor(parts: SenderParts) {
    this.#parts = parts
    this.#resolve = parts.resolve ?? resolveHost
    this.#random = parts.random ?? Math.random
  }

  start(): Promise<void> {
    if (this.#running) return Promise.resolve()
    this.#running = true
    this.#stopping = new AbortController()
    const endPoll = this.#parts.clock.every(pollMs, () => {
      this.#searchLeft = searchMax
      this.#fill()
    })
    const endWake = this.#parts.store.onWake(({ kind }) => {
      if (kind === 'outbox') this.#fill()
    })
    this.#release = () => {
      endPoll()
      endWake()
    }
    this.#fill()
    return Promise.resolve()
  }

  /** Deliveries under way have a moment to end; what still waits is given back to the store. */
  async stop(): Promise<void> {
    if (!this.#running) return
    this.#running = false
    this.#release()
    const { clock, store } = this.#parts
    const endGrace = clock.after(stopGraceMs, () => this.#stopping.abort(new Error('the server is stopping')))
    await this.#filling
    const waiting = this.#lanes.clear()
    await Promise.allSettled(
      waiting.map(({ message }) => store.outbox.settle(message.id, message.attempt, clock.wallMs())),
    )
    await Promise.all(this.#underWay)
    endGrace()
  }

  /** Takes what is due, while there is room. Asked again meanwhile, it looks once more. */
  #fill(): void {
    this.#again = true
    this.#filling ??= this.#fillUp().finally(() => {
      this.#filling = null
      // Somebody may have asked between the last look and here.
      if (this.#again && this.#running) this.#fill()
    })
  }

  async #fillUp(): Promise<void> {
    try {
      while (this.#again && this.#running) {
        this.#again = false
        if (await this.#claimSome()) this.#again = true
      }
      this.#storeFailed = false
    } catch (error) {
      // Once for each time that it fails: the poll asks every second.
      const said = 'the storage gives out no webhooks now'
      if (!this.#storeFailed) this.#parts.log.warn(describeFault(error), said)
      this.#storeFailed = true
    }
  }

  /** Whether there may be more. */
  async #claimSome(): Promise<boolean> {
    const { store, clock, settings } = this.#parts
    const { secrets, timeoutMs } = settings()
    const limit = Math.min(this.#lanes.room, claimMax, this.#claimRoom())
    if (secrets.length === 0 || limit <= 0) return false
    this.#searchLeft -= limit
    const leaseMs = timeoutMs * leaseDeliveries
    const leaseUntilMs = clock.now() + leaseMs
    const messages = await store.outbox.claim(clock.wallMs(), leaseMs, limit)
    const accepted = await Promise.allSettled(messages.map((message) => this.#accept(message, leaseUntilMs)))
    this.#sendNext()
    const failed = accepted.find(({ status }) => status === 'rejected')
    if (failed?.status === 'rejected') throw failed.reason
    return messages.length === limit
  }

  /**
   * As many as one host may have, so that all of a fast one's get a place. Behind a line that stays full other hosts
   * are looked for, a few at each poll.
   */
  #claimRoom(): number {
    const { laneRoom } = this.#lanes
    return laneRoom >= laneRoomMin ? laneRoom : this.#searchLeft
  }

  async #accept(message: OutboxMessage, leaseUntilMs: number): Promise<void> {
    const { store, clock } = this.#parts
    const detail = await store.tasks.get(message.tenant, message.taskId)
    const url = detail === null ? null : (readPayload(detail.payload).webhook?.url ?? null)
    // Removed meanwhile, or put in the line again: then its next end is told.
    if (detail === null || url === null || !isFinal(detail.task.status)) {
      await store.outbox.settle(message.id, message.attempt, null)
      return
    }
    if (this.#lanes.offer(toHost(url), { message, task: detail.task, url, leaseUntilMs })) return
    const times = this.#postponed.get(message.id) ?? 0
    this.#postponed.set(message.id, times + 1)
    const delayMs = Math.min(postponeMs * 2 ** times, postponeMsMax) * (0.5 + this.#random() / 2)
    await store.outbox.settle(message.id, message.attempt, Math.round(clock.wallMs() + delayMs))
  }

  #sendNext(): void {
    if (!this.#running) return
    for (let next = this.#lanes.take(); next; next = this.#lanes.take()) {
      const { host, item } = next
      const sending = this.#send(item)
        .catch((error: unknown) => this.#parts.log.warn(describeFault(error), 'a webhook was not settled'))
        .finally(() => {
          this.#underWay.delete(sending)
          this.#lanes.done(host)
          this.#sendNext()
          if (this.#running) this.#fill()
        })
      this.#underWay.add(sending)
    }
  }

  async #send({ message, task, url, leaseUntilMs }: Item): Promise<void> {
    const { store, clock, settings, log, count } = this.#parts
    const rules = settings()
    // Past the lease another process may have it; it would be sent twice.
    if (clock.now() + rules.timeoutMs > leaseUntilMs || rules.secrets.length === 0) return
    const body = buildMessage(task, message)
    const headers = signMessage({ id: message.id, body, wallMs: clock.wallMs() }, rules.secrets)
    const parts = { settings: rules, resolve: this.#resolve, clock }
    const delivery = await postMessage({ url, headers, body }, parts, this.#stopping.signal)
    if (delivery.kind === 'failed' && this.#stopping.signal.aborted) {
      // Cut off by us: that says nothing about the receiver.
      await store.outbox.settle(message.id, message.attempt, clock.wallMs())
      return
    }
    const attempt = Math.max(1, message.attempt - (this.#postponed.get(message.id) ?? 0))
    const verdict = judge(delivery, { attempt, attemptsMax: rules.attemptsMax, chance: this.#random() })
    const retryAtMs = verdict.kind === 'retry' ? Math.round(clock.wallMs() + verdict.delayMs) : null
    if (retryAtMs === null) this.#postponed.delete(message.id)
    await store.outbox.settle(message.id, message.attempt, retryAtMs)
    count?.(verdict.kind)
    // The path of a URL may be a secret of the receiver's; the host says enough.
    const fields = { webhook: message.id, task: task.id, host: toHost(url), attempt }
    if (verdict.kind === 'delivered') log.debug(fields, 'webhook delivered')
    else if (verdict.kind === 'retry') log.info({ ...fields, reason: verdict.reason }, 'webhook failed')
    else log.warn({ ...fields, reason: verdict.reason }, 'webhook given up')
  }
}

/** The host and port of a URL; a text that is none has a line of its own, and is refused when its turn comes. */
function toHost(url: string): string {
  return URL.parse(url)?.host ?? ''
}

async function resolveHost(host: string): Promise<readonly string[]> {
  const found = await lookup(host, { all: true })
  return found.map(({ address }) => address)
}
