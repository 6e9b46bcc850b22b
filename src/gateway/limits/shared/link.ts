import type { Clock } from '../../../core/clock.ts'
import { fail } from '../../../core/errors.ts'
import { makeId } from '../../../core/ids.ts'
import type { Service } from '../../../core/service.ts'
import type { Logger } from '../../../telemetry/log.ts'
import { AskQueue } from './ask-queue.ts'
import type { Answer, Ask, Authority } from './authority.ts'
import type { Leased, LinkState } from './leased.ts'
import { WaitList, type Waiter } from './wait-list.ts'

/** For an answer. A request waits for the ask under way and then for its own: for twice as long at most. */
export const callMs = 50
/** To connect, while nobody waits for it. */
const openMs = 1_000
const tickMs = 250
const heartbeatMs = 1_000
const waitersMax = 10_000
/** Outages that follow one another are told once in this time. */
const logEveryMs = 60_000

/** Something that a request needs, and how to say how much of it. */
export type Want = { leased: Leased; want: () => void }

type Call = { items: readonly Leased[]; waiters: readonly Waiter[] }

/**
 * The way to an authority, whatever carries it: one ask at a time, in which all go along who wait. When no answer comes
 * in time the authority is away, nobody waits for it any more, and it is looked for in the background.
 */
export class Link implements LinkState, Service {
  readonly name = 'shared limits'
  isDown = true
  outage = 1
  replicas = 1
  /** Why the authority is away, in a few words. */
  reason: string | null = null
  readonly #authority: Authority
  readonly #budgetMs: number
  readonly #clock: Clock
  readonly #log: Logger
  readonly #id = makeId('srv')
  readonly #queue = new AskQueue()
  readonly #remembered = new Set<Leased>()
  readonly #watched = new Set<Leased>()
  readonly #waiting = new WaitList()
  #call: Call | null = null
  #isPumping = false
  #calledAtMs = -Infinity
  #loggedAtMs = -Infinity
  #probing: Promise<void> | null = null
  #probeAbort: AbortController | null = null
  #stopTicking: (() => void) | null = null

  /** `budgetMs`: for an answer of the authority. */
  constructor(parts: { authority: Authority; clock: Clock; log: Logger; budgetMs?: number | undefined }) {
    this.#authority = parts.authority
    this.#budgetMs = parts.budgetMs ?? callMs
    this.#clock = parts.clock
    this.#log = parts.log
  }

  get title(): string {
    return this.#authority.title
  }

  /** Connects if it can; if not, it goes on trying. */
  async start(): Promise<void> {
    this.#stopTicking = this.#clock.every(tickMs, () => this.#tick())
    await this.#probe()
  }

  async stop(): Promise<void> {
    if (this.#stopTicking === null) return
    this.#stopTicking()
    this.#stopTicking = null
    this.#probeAbort?.abort(new Error('the server stops'))
    await this.#probing
    if (!this.isDown) await this.#sayBye()
    this.#lose(this.#call, 'the server stops')
  }

  /** Asks for what is wanted, and then decides. Throws overloaded when too many wait. */
  wait<T>(wants: readonly Want[], decide: () => T): Promise<T> {
    if (this.#waiting.size >= waitersMax) {
      throw fail('overloaded', {
        message: `${waitersMax} requests wait for their limits to be looked up; try again in a second.`,
        retryAfterMs: 1_000,
      })
    }
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    const run = () => {
      try {
        resolve(decide())
      } catch (error) {
        reject(error)
      }
    }
    this.#waiting.add({ needs: wants.map(({ leased }) => leased), decide: run, refuse: reject })
    for (const { want } of wants) want()
    return promise
  }

  askFor(leased: Leased): void {
    this.#queue.want(leased)
    this.#pumpSoon()
  }

  tellNow(leased: Leased): void {
    this.#queue.tellNow(leased)
    this.#pumpSoon()
  }

  tell(leased: Leased): void {
    this.#queue.tellLater(leased)
  }

  remember(leased: Leased): void {
    this.#remembered.add(leased)
  }

  watch(leased: Leased): void {
    this.#watched.add(leased)
  }

  forget(leased: Leased): void {
    this.#queue.forget(leased)
    this.#remembered.delete(leased)
    this.#watched.delete(leased)
  }

  #tick(): void {
    if (this.isDown) {
      void this.#probe()
      return
    }
    const nowMs = this.#clock.now()
    for (const leased of this.#watched) {
      if (leased.isDue(nowMs)) this.tell(leased)
      else if (!leased.isHolding(nowMs)) this.#watched.delete(leased)
    }
    this.#queue.tick()
    this.#pump()
    if (nowMs - this.#calledAtMs >= heartbeatMs && this.#call === null) this.#send()
  }

  /** After this turn: whoever asks in it goes along. */
  #pumpSoon(): void {
    if (this.#isPumping || this.#call !== null) return
    this.#isPumping = true
    queueMicrotask(() => {
      this.#isPumping = false
      this.#pump()
    })
  }

  #pump(): void {
    if (!this.isDown && this.#call === null && this.#queue.isDue) this.#send()
  }

  #send(): void {
    const nowMs = this.#clock.now()
    const items = this.#queue.take()
    const call: Call = { items, waiters: this.#waiting.take(items) }
    this.#call = call
    this.#calledAtMs = nowMs
    const ask: Ask = { replica: this.#id, bye: false, items: items.map((item) => item.compose(nowMs)) }
    const cancel = this.#clock.after(this.#budgetMs, () => {
      // After a pause of this process the answer may lie there unread: timers come before sockets.
      setImmediate(() => this.#lose(call, `no answer within ${this.#budgetMs} ms`))
    })
    this.#authority.decide(ask).then(
      (answer) => {
        cancel()
        this.#settle(call, answer, nowMs)
      },
      (error: unknown) => {
        cancel()
        this.#lose(call, describe(error))
      },
    )
  }

  #settle(call: Call, answer: Answer, sentAtMs: number): void {
    if (this.#call !== call) return
    this.#call = null
    this.replicas = Math.max(1, answer.replicas)
    const nowMs = this.#clock.now()
    const refused = new Set<Leased>()
    for (const [i, item] of call.items.entries()) {
      const result = answer.results[i] ?? null
      if (result === null) refused.add(item)
      else item.apply(result, sentAtMs, nowMs)
      this.#queue.release(item)
    }
    // It was silent for too long and is taken for dead: what it holds must be told again.
    if (!answer.known) for (const leased of this.#watched) if (!call.items.includes(leased)) this.tell(leased)
    for (const waiter of call.waiters) {
      if (refused.size > 0 && waiter.needs.some((need) => refused.has(need))) waiter.refuse(this.#noRoom())
      else waiter.decide()
    }
    this.#pump()
  }

  #noRoom(): Error {
    return fail('overloaded', {
      message: `${this.title} counts as many limits as it has room for, and not yours; try again in a second.`,
      retryAfterMs: 1_000,
    })
  }

  /** The authority is away. Whoever waits is decided on with the share of this server. */
  #lose(call: Call | null, reason: string): void {
    if (this.#call !== call || this.isDown) return
    this.#call = null
    this.isDown = true
    this.outage += 1
    this.reason = reason
    this.#authority.close()
    for (const leased of new Set([...(call?.items ?? []), ...this.#queue.takeWanted()])) {
      this.#queue.release(leased)
      leased.lost()
    }
    const waiters = [...(call?.waiters ?? []), ...this.#waiting.takeAll()]
    this.#report(reason)
    for (const waiter of waiters) waiter.decide()
  }

  #report(reason: string): void {
    if (this.#stopTicking === null) return
    const nowMs = this.#clock.now()
    const level = nowMs - this.#loggedAtMs >= logEveryMs ? 'warn' : 'debug'
    if (level === 'warn') this.#loggedAtMs = nowMs
    this.#log[level](
      { reason, replicas: this.replicas },
      `${this.title} is away: this server goes on with its share of the limits`,
    )
  }

  #probe(): Promise<void> {
    this.#probing ??= this.#connect().finally(() => {
      this.#probing = null
    })
    return this.#probing
  }

  async #connect(): Promise<void> {
    const abort = new AbortController()
    this.#probeAbort = abort
    const cancel = this.#clock.after(openMs, () =>
      abort.abort(new Error(`no connection within ${openMs} ms`)),
    )
    try {
      await this.#authority.open(abort.signal)
      const answered = this.#authority.decide({ replica: this.#id, bye: false, items: [] })
      const answer = await Promise.race([answered, rejectWhenAborted(abort.signal)])
      this.#welcome(answer)
    } catch (error) {
      this.#authority.close()
      const isNews = this.reason === null
      this.reason = describe(error)
      if (isNews) this.#report(this.reason)
    } finally {
      cancel()
    }
  }

  #welcome({ replicas }: Answer): void {
    const nowMs = this.#clock.now()
    const wasAway = this.reason !== null
    this.isDown = false
    this.reason = null
    this.replicas = Math.max(1, replicas)
    this.#calledAtMs = nowMs
    const returning = new Set([...this.#remembered, ...this.#watched])
    this.#remembered.clear()
    for (const leased of returning) leased.cameBack(nowMs)
    const news = wasAway ? 'is back: limits are shared again' : 'keeps the limits'
    this.#log.info({ replicas }, `${this.title} ${news}`)
    this.#tick()
  }

  async #sayBye(): Promise<void> {
    const nowMs = this.#clock.now()
    const items = this.#queue.takeLast().map((leased) => leased.compose(nowMs))
    const abort = new AbortController()
    const cancel = this.#clock.after(this.#budgetMs, () => abort.abort(new Error('no answer')))
    const said = this.#authority.decide({ replica: this.#id, bye: true, items })
    await Promise.race([said, rejectWhenAborted(abort.signal)]).catch(() => {})
    cancel()
  }
}

function rejectWhenAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason as Error)
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
  })
}

/** Messages of the client name hosts and codes, and no passwords. */
function describe(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return describe(error.errors[0])
  return error instanceof Error ? (error.message || error.name).slice(0, 200) : 'unknown'
}
