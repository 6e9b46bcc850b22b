import type { Config } from '../../config/schema.ts'
import type { CancelSignal } from '../../core/cancellation.ts'
import type { Clock } from '../../core/clock.ts'
import { ApiError } from '../../core/errors.ts'
import type { AnswerHead, Ask, Call, Sink } from '../../router/call.ts'
import type { Deadlines } from '../../router/deadlines.ts'
import type { ModelCells, ModelSight } from './admission-metrics.ts'
import type { Capacity } from './capacity.ts'
import {
  adjustLimit,
  newLimit,
  isPrompt,
  limitRules,
  type LimitRules,
  type LimitState,
  type Usual,
} from './limit.ts'
import { Place, type PlaceOwner } from './place.ts'
import { refuseEntry, type RefusalKind } from './refusals.ts'
import { TtftSamples } from './ttft-samples.ts'
import { nobodysAsk, Waiter } from './waiter.ts'
import { WaitingLine } from './waiting-line.ts'

export type AdmissionSettings = Config['admission']

/** The limit is looked at so often, where anything happens. */
const windowMs = 1_000
/** Samples are collected no longer than this: older ones tell of another time. */
const windowMsMax = 60_000
/** The time that a request keeps its place is an average over about so many. */
const residenceSamples = 32
/** The last times to the first token say nothing about now, when nobody has heard of any for so long. */
const recentMsMax = 60_000
/** Where nothing has been measured yet. */
const residenceUnknownMs = 1_000

/** The door of one model: who is under way, who waits, and how many may be under way at once. */
export class ModelGate implements PlaceOwner {
  readonly #model: string
  readonly #clock: Clock
  readonly #deadlines: Deadlines
  readonly #cells: ModelCells
  readonly #settings: () => AdmissionSettings
  readonly #readCapacity: () => Capacity
  readonly #line = new WaitingLine<Waiter>()
  readonly #streams = new TtftSamples()
  readonly #wholes = new TtftSamples()
  #state: LimitState
  #capacity: Capacity
  /** Between two windows it may grow. */
  #limit: number
  #inFlight = 0
  /** How many have had to wait so far. */
  #arrivals = 0
  #windowEndsMs: number
  #samplesSinceMs: number
  #peak = 0
  #hasWaited = false
  /** The last who came had to wait. */
  #isCrowded = false
  #ended = 0
  #drops = 0
  /** The median time to the first token of a stream, as last heard of. */
  #recent: Usual | null = null
  #residenceMs = 0
  #residences = 0

  constructor(parts: {
    model: string
    clock: Clock
    deadlines: Deadlines
    cells: ModelCells
    settings: () => AdmissionSettings
    readCapacity: () => Capacity
  }) {
    this.#model = parts.model
    this.#clock = parts.clock
    this.#deadlines = parts.deadlines
    this.#cells = parts.cells
    this.#settings = parts.settings
    this.#readCapacity = parts.readCapacity
    this.#capacity = parts.readCapacity()
    this.#state = newLimit(this.#capacity, parts.settings())
    this.#limit = this.#state.limit
    this.#samplesSinceMs = parts.clock.now()
    this.#windowEndsMs = this.#samplesSinceMs + windowMs
  }

  get isIdle(): boolean {
    return this.#inFlight === 0 && this.#line.size === 0
  }

  look(): ModelSight {
    const { model, limit, inFlight } = { model: this.#model, limit: this.limit, inFlight: this.#inFlight }
    const waiting = {
      priority: this.#line.sizeOf('priority'),
      default: this.#line.sizeOf('default'),
      flex: this.#line.sizeOf('flex'),
    }
    return { model, limit, inFlight, waiting }
  }

  get limit(): number {
    return Math.floor(this.#limit)
  }

  /** A place, at once where there is room. Throws, or rejects with, the reason for which there is none. */
  enter(call: Call, sink: Sink, signal: CancelSignal): Place | Promise<Place> {
    const nowMs = this.#clock.now()
    if (nowMs >= this.#windowEndsMs) this.#closeWindow(nowMs)
    const ask = call.ask ?? nobodysAsk
    if (this.#inFlight < this.limit && this.#line.size === 0) {
      if (ask.deadlineMs !== null && this.#latestStart(ask.deadlineMs, nowMs) < nowMs) {
        throw this.#refusal('rejected_deadline', ask.tier, 0)
      }
      if (this.#isCrowded) {
        this.#isCrowded = false
        this.#line.rest(nowMs)
      }
      return this.#letIn(sink, call.stream, ask.tier, nowMs)
    }
    return this.#wait(ask, call.stream, sink, signal, nowMs)
  }

  firstByte(place: Place, head: AnswerHead): void {
    // A refusal, or the answer of a second instance after the failure of the first, says nothing of how busy they are.
    if (head.status !== 200 || head.attempts !== 1) return
    const nowMs = this.#clock.now()
    const ttftMs = nowMs - place.startedAtMs
    // Who began under the last limit tells of that one.
    if (place.startedAtMs >= this.#samplesSinceMs) (place.stream ? this.#streams : this.#wholes).add(ttftMs)
    if (!this.#state.isProbing || this.#inFlight < this.limit) return
    if (!isPrompt(this.#state, ttftMs, { stream: place.stream, ...this.#rules() })) return
    this.#limit = Math.max(this.#limit, Math.min(this.#limit + 1, this.#capacity.inFlightMax || Infinity))
    this.#fill(nowMs)
  }

  left(place: Place, thrown: unknown): void {
    const nowMs = this.#clock.now()
    this.#inFlight -= 1
    this.#ended += 1
    if (thrown !== null && this.#isDrop(thrown)) this.#drops += 1
    this.#residences += 1
    const share = 1 / Math.min(this.#residences, residenceSamples)
    this.#residenceMs += (nowMs - place.startedAtMs - this.#residenceMs) * share
    if (nowMs >= this.#windowEndsMs) this.#closeWindow(nowMs)
    if (this.#line.size > 0) this.#fill(nowMs)
  }

  /** Sends away all who wait. */
  clear(kind: RefusalKind): void {
    for (const waiter of [...this.#line.all()]) this.#leave(waiter, kind)
  }

  #wait(ask: Ask, stream: boolean, sink: Sink, signal: CancelSignal, nowMs: number): Promise<Place> {
    const { waitingMax } = this.#settings()
    const latestStartMs = ask.deadlineMs === null ? Infinity : this.#latestStart(ask.deadlineMs, nowMs)
    const waitMaxMs = this.#line.readWaitMs(ask, nowMs, this.#waitMaxMs())
    const waiter = new Waiter({
      ...{ ask, stream, sink, signal, latestStartMs, waitMaxMs },
      ...{
        arrivedAtMs: nowMs,
        order: this.#arrivals++,
        leave: (who: Waiter, kind: RefusalKind) => this.#leave(who, kind),
      },
    })
    if (signal.aborted) throw this.#refusal('client_gone', ask.tier, 0)
    this.#hasWaited = true
    this.#isCrowded = true
    const waitMs = this.#line.countAhead(waiter) * this.#msPerPlace()
    if (nowMs + waitMs > latestStartMs) throw this.#refusal('rejected_deadline', ask.tier, waitMs)
    // Whoever would wait in vain is told so at once.
    if (waitMs > waitMaxMs) throw this.#refusal('rejected_full', ask.tier, waitMs)
    const displaced = this.#line.offer(waiter, waitingMax)
    if (displaced === waiter) throw this.#refusal('rejected_full', ask.tier, waitMs)
    if (displaced) this.#sendAway(displaced, 'rejected_shed')
    waiter.watch()
    this.#deadlines.add(waiter)
    return waiter.settled
  }

  #leave(waiter: Waiter, kind: RefusalKind): void {
    if (this.#line.delete(waiter)) this.#sendAway(waiter, kind)
  }

  /** For one who is out of the line already. */
  #sendAway(waiter: Waiter, kind: RefusalKind): void {
    this.#deadlines.delete(waiter)
    const drainMs = (this.#line.countAhead(waiter) + 1) * this.#msPerPlace()
    waiter.refuse(this.#refusal(kind, waiter.tier, drainMs))
  }

  #refusal(kind: RefusalKind, tier: Ask['tier'], drainMs: number): ApiError {
    this.#cells.outcomes[tier][kind].value += 1
    return refuseEntry(kind, { model: this.#model, drainMs })
  }

  #letIn(sink: Sink, stream: boolean, tier: Ask['tier'], nowMs: number): Place {
    this.#inFlight += 1
    if (this.#inFlight > this.#peak) this.#peak = this.#inFlight
    this.#cells.outcomes[tier].admitted.value += 1
    return new Place(this, sink, stream, nowMs)
  }

  /** Lets in who waits, while there is room. */
  #fill(nowMs: number): void {
    const waitMaxMs = this.#waitMaxMs()
    while (this.#inFlight < this.limit && this.#line.size > 0) {
      const stale = this.#line.findStale({ nowMs, waitMaxMs, keep: this.limit })
      if (stale) {
        this.#leave(stale, 'expired')
        continue
      }
      const waiter = this.#line.take({ nowMs, waitMaxMs, msPerPlace: this.#msPerPlace() }) as Waiter
      // After a pause of this process many may be late whom nobody has sent away yet.
      if (waiter.deadlineMs <= nowMs) {
        this.#sendAway(waiter, waiter.lateKind)
        continue
      }
      this.#deadlines.delete(waiter)
      this.#cells.waits[waiter.tier].observe((nowMs - waiter.arrivedAtMs) / 1000)
      waiter.letIn(this.#letIn(waiter.sink, waiter.stream, waiter.tier, nowMs))
    }
  }

  #closeWindow(nowMs: number): void {
    const ageMs = nowMs - this.#samplesSinceMs
    const stream = this.#streams.summarise(ageMs)
    const whole = this.#wholes.summarise(ageMs)
    this.#capacity = this.#readCapacity()
    const seen = {
      peak: this.#peak,
      hasWaited: this.#hasWaited,
      ended: this.#ended,
      drops: this.#drops,
      stream,
      whole,
    }
    if (stream) this.#recent = { ms: stream.medianMs, atMs: nowMs }
    const last = { ...this.#state, limit: this.#limit }
    this.#state = adjustLimit(last, { nowMs, ...this.#capacity, ...seen }, this.#rules())
    this.#limit = this.#state.limit
    this.#windowEndsMs = nowMs + windowMs
    this.#ended = 0
    this.#drops = 0
    // Where answers are rare, their times are collected over several windows.
    if (stream || whole || ageMs >= windowMsMax) {
      this.#streams.clear()
      this.#wholes.clear()
      this.#samplesSinceMs = nowMs
      this.#peak = this.#inFlight
      this.#hasWaited = this.#line.size > 0
    }
    if (this.#line.size > 0) this.#fill(nowMs)
  }

  /**
   * The last moment at which a request may begin that is to show its first byte by `deadlineMs`. Whole answers are as
   * long as they are asked to be: of them no more is known than that their first token takes what those of streams do.
   */
  #latestStart(deadlineMs: number, nowMs: number): number {
    const recent = this.#recent
    return recent && nowMs - recent.atMs < recentMsMax ? deadlineMs - recent.ms : deadlineMs
  }

  /** In which one place becomes free, with all of them taken. */
  #msPerPlace(): number {
    return (this.#residences > 0 ? this.#residenceMs : residenceUnknownMs) / this.limit
  }

  /** With a target, nobody waits until it is out of reach. */
  #waitMaxMs(): number {
    const { waitMaxMs, ttftTargetMs } = this.#settings()
    return ttftTargetMs > 0 ? Math.min(waitMaxMs, ttftTargetMs * limitRules.waitShare) : waitMaxMs
  }

  #rules(): LimitRules {
    return this.#settings()
  }

  /** The fleet turned it away because it was full, and not because it was down. */
  #isDrop(thrown: unknown): boolean {
    if (!(thrown instanceof ApiError)) return false
    const { code } = thrown
    if (code === 'engine_overloaded' || code === 'rate_limited') return true
    return code === 'no_instance' && this.#readCapacity().slots > 0
  }
}
