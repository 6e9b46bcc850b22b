import type { Clock } from '../core/clock.ts'
import type { Service } from '../core/service.ts'
import type { Wire } from '../core/wire.ts'
import { LiveBook, type LiveSight, type LiveSignals } from './live-signals.ts'

/** What has happened to live requests of a model since it was last told. */
type SignalNews = {
  model: string
  began: number
  /** First bytes, and their times together: averages are all that is made of them. */
  answers: number
  ttftSumMs: number
  endedAnswered: number
  endedUnanswered: number
}

/** Tasks are given out far less often. */
const tellEveryMs = 20

/** The book of a process that runs no tasks: it tells the one that does. */
export class ToldLiveBook implements LiveSignals, Service {
  readonly name = 'live signals'
  readonly #book: LiveBook
  readonly #wire: Wire
  readonly #clock: Clock
  #news = new Map<string, SignalNews>()
  #stopTelling: (() => void) | null = null

  constructor(parts: { wire: Wire; clock: Clock }) {
    this.#book = new LiveBook(parts.clock)
    this.#wire = parts.wire
    this.#clock = parts.clock
  }

  start(): Promise<void> {
    this.#stopTelling ??= this.#clock.every(tellEveryMs, () => this.#tell())
    return Promise.resolve()
  }

  stop(): Promise<void> {
    this.#stopTelling?.()
    this.#stopTelling = null
    return Promise.resolve()
  }

  began(model: string): void {
    this.#book.began(model)
    this.#of(model).began += 1
  }

  firstByte(model: string, ttftMs: number): void {
    this.#book.firstByte(model, ttftMs)
    const news = this.#of(model)
    news.answers += 1
    news.ttftSumMs += ttftMs
  }

  ended(model: string, answered: boolean): void {
    this.#book.ended(model, answered)
    const news = this.#of(model)
    if (answered) news.endedAnswered += 1
    else news.endedUnanswered += 1
  }

  /** Of this process alone. */
  look(models: readonly string[]): LiveSight {
    return this.#book.look(models)
  }

  #of(model: string): SignalNews {
    let news = this.#news.get(model)
    if (!news) {
      news = { model, began: 0, answers: 0, ttftSumMs: 0, endedAnswered: 0, endedUnanswered: 0 }
      this.#news.set(model, news)
    }
    return news
  }

  #tell(): void {
    if (this.#news.size === 0 || this.#wire.isCongested) return
    this.#wire.tell('live', [...this.#news.values()])
    this.#news = new Map()
  }
}

/** Enters what another process tells. When it is gone, so are its requests. */
export function hostSignals(wire: Wire, book: LiveSignals): void {
  const open = new Map<string, { answered: number; unanswered: number }>()
  wire.on('live', (all: SignalNews[]) => {
    for (const news of all) {
      const { model, began, answers, ttftSumMs, endedAnswered, endedUnanswered } = news
      const counts = open.get(model) ?? { answered: 0, unanswered: 0 }
      counts.unanswered += began - answers - endedUnanswered
      counts.answered += answers - endedAnswered
      open.set(model, counts)
      repeat(began, () => book.began(model))
      repeat(answers, () => book.firstByte(model, ttftSumMs / answers))
      repeat(endedAnswered, () => book.ended(model, true))
      repeat(endedUnanswered, () => book.ended(model, false))
    }
  })
  void wire.closed.then(() => {
    for (const [model, { answered, unanswered }] of open) {
      repeat(answered, () => book.ended(model, true))
      repeat(unanswered, () => book.ended(model, false))
    }
  })
}

function repeat(times: number, run: () => void): void {
  for (let i = 0; i < times; i += 1) run()
}
