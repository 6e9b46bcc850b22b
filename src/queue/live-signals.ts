import type { Clock } from '../core/clock.ts'

/** How live requests of one model fare now, beside how they usually do. */
export type LiveSight = {
  /** Live requests under way. */
  inFlight: number
  /** Those of them that have got nothing of their answer yet. */
  waiting: number
  /** Recent time to the first byte as a multiple of the usual one; null while too little is known. */
  slowdown: number | null
  /** The same for the number of requests that wait. */
  crowding: number | null
  /** When a live request last came or went (monotonic); -Infinity for never. */
  seenAtMs: number
}

/** What the gateway tells, at each live request: its own calls and no task's. */
export interface LiveSignals {
  /** A request for this model was sent on its way. */
  began(model: string): void
  /** The first byte of its answer has come. */
  firstByte(model: string, ttftMs: number): void
  /** It is over, however it ended. `answered` says whether `firstByte` was called for it. */
  ended(model: string, answered: boolean): void
}

/** A dozen answers make an average: fewer say more about their prompts than about the fleet. */
const recentSamples = 12
/** Before it is compared with anything. */
const samplesMin = 12
/**
 * The usual time follows what is faster within minutes and what is slower within an hour: tasks that make everything
 * a bit slower must not become what is usual while they run.
 */
const usualTauMs = { falling: 120_000, rising: 3_600_000 } as const
const recentWaitingTauMs = 2_000
/** The number of waiting requests goes up and down with the hour. */
const usualWaitingTauMs = 300_000
/** Fewer than this are no crowd. */
const crowdMin = 4

class ModelSignals {
  inFlight = 0
  waiting = 0
  seenAtMs = -Infinity
  samples = 0
  recentMs = 0
  usualMs = 0
  usualAtMs = 0
  recentWaiting = 0
  usualWaiting = 0
  waitingAtMs = 0
  waitingSinceMs = 0
}

/**
 * Moving averages of live requests by model: a few numbers for each, whatever the traffic. Models are few (only those
 * that are served are told of), so none is forgotten.
 */
export class LiveBook implements LiveSignals {
  readonly #clock: Clock
  readonly #models = new Map<string, ModelSignals>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  began(model: string): void {
    const signals = this.#see(model, this.#clock.now())
    signals.inFlight += 1
    signals.waiting += 1
  }

  firstByte(model: string, ttftMs: number): void {
    const nowMs = this.#clock.now()
    const signals = this.#see(model, nowMs)
    signals.waiting -= 1
    signals.samples += 1
    const share = 1 / Math.min(signals.samples, recentSamples)
    signals.recentMs += (ttftMs - signals.recentMs) * share
    if (signals.samples <= samplesMin) signals.usualMs = signals.recentMs
    else {
      const tauMs = signals.recentMs < signals.usualMs ? usualTauMs.falling : usualTauMs.rising
      const keep = Math.exp((signals.usualAtMs - nowMs) / tauMs)
      signals.usualMs = signals.recentMs + (signals.usualMs - signals.recentMs) * keep
    }
    signals.usualAtMs = nowMs
  }

  ended(model: string, answered: boolean): void {
    const signals = this.#see(model, this.#clock.now())
    signals.inFlight -= 1
    if (!answered) signals.waiting -= 1
  }

  /** Of several models that share their instances: counts together, and the worst of the ratios. */
  look(models: readonly string[]): LiveSight {
    const nowMs = this.#clock.now()
    const sight: LiveSight = { inFlight: 0, waiting: 0, slowdown: null, crowding: null, seenAtMs: -Infinity }
    for (const model of models) {
      const signals = this.#models.get(model)
      if (!signals) continue
      averageWaiting(signals, nowMs)
      sight.inFlight += signals.inFlight
      sight.waiting += signals.waiting
      sight.seenAtMs = Math.max(sight.seenAtMs, signals.seenAtMs)
      sight.slowdown = larger(sight.slowdown, readSlowdown(signals))
      sight.crowding = larger(sight.crowding, readCrowding(signals))
    }
    return sight
  }

  /** Something happens to a request of this model now. */
  #see(model: string, nowMs: number): ModelSignals {
    const signals = this.#of(model)
    averageWaiting(signals, nowMs)
    signals.seenAtMs = nowMs
    return signals
  }

  #of(model: string): ModelSignals {
    let signals = this.#models.get(model)
    if (!signals) {
      signals = new ModelSignals()
      signals.waitingAtMs = signals.waitingSinceMs = this.#clock.now()
      this.#models.set(model, signals)
    }
    return signals
  }
}

/** Brings the averages of the number that waits up to now, before that number changes. */
function averageWaiting(signals: ModelSignals, nowMs: number): void {
  const passedMs = nowMs - signals.waitingAtMs
  signals.waitingAtMs = nowMs
  const { waiting } = signals
  signals.recentWaiting = follow(signals.recentWaiting, waiting, passedMs / recentWaitingTauMs)
  // In the first minutes the average over all that was seen: the long one would still be near zero.
  const tauMs = Math.min(usualWaitingTauMs, Math.max(1, nowMs - signals.waitingSinceMs))
  signals.usualWaiting = follow(signals.usualWaiting, waiting, passedMs / tauMs)
}

/** An average that has followed `value` for so many time constants. */
const follow = (average: number, value: number, constants: number): number =>
  value + (average - value) * Math.exp(-constants)

const readSlowdown = ({ samples, recentMs, usualMs }: ModelSignals): number | null =>
  samples > samplesMin && usualMs > 0 ? recentMs / usualMs : null

const readCrowding = ({ samples, recentWaiting, usualWaiting }: ModelSignals): number | null =>
  samples > samplesMin ? recentWaiting / Math.max(usualWaiting, crowdMin) : null

const larger = (one: number | null, other: number | null): number | null =>
  one === null ? other : other === null ? one : Math.max(one, other)
