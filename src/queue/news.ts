import type { Clock } from '../core/clock.ts'
import type { Wire } from '../core/wire.ts'
import { ProgressBoard, type ProgressView } from './progress.ts'

/** What the process that runs the tasks tells those that show them: how far a task is, and that a stream goes on. */
type NewsTopic = 'progress' | 'events'
type NewsItem = readonly [topic: NewsTopic, id: string, value: number | null]
type Listener = (value: number | null) => void

/** What is told of one id is told no more often than this. */
const tellEveryMs = 20
/** Followers of one process; those beyond it look into the storage, as they do at times anyway. */
const watchedMax = 20_000

const keyOf = (topic: NewsTopic, id: string) => `${topic}:${id}`

/** The side that asks for news. */
export class NewsDesk {
  readonly #wire: Wire
  readonly #listeners = new Map<string, Set<Listener>>()

  constructor(wire: Wire) {
    this.#wire = wire
    wire.on('news', (items: NewsItem[]) => {
      for (const [topic, id, value] of items) {
        for (const listener of this.#listeners.get(keyOf(topic, id)) ?? []) listener(value)
      }
    })
  }

  /** Calls `listener` at news of this id until the returned function is called. */
  watch(topic: NewsTopic, id: string, listener: Listener): () => void {
    const key = keyOf(topic, id)
    const listeners = this.#listeners.get(key) ?? new Set()
    if (listeners.size === 0) this.#wire.tell('watch', [topic, id])
    this.#listeners.set(key, listeners)
    listeners.add(listener)
    return () => {
      if (!listeners.delete(listener) || listeners.size > 0) return
      this.#listeners.delete(key)
      this.#wire.tell('unwatch', [topic, id])
    }
  }
}

/** The side that has the news: `sources` call back at each until the function that they return is called. */
export function hostNews(
  wire: Wire,
  sources: Readonly<Record<NewsTopic, (id: string, tell: Listener) => () => void>>,
  clock: Clock,
): void {
  const stops = new Map<string, () => void>()
  let waiting = new Map<string, NewsItem>()
  const flush = () => {
    if (!wire.isCongested) wire.tell('news', [...waiting.values()])
    waiting = new Map()
  }
  wire.on('watch', ([topic, id]: [NewsTopic, string]) => {
    const key = keyOf(topic, id)
    if (stops.has(key) || stops.size >= watchedMax) return
    const tell = (value: number | null) => {
      if (waiting.size === 0) clock.after(tellEveryMs, flush)
      waiting.set(key, [topic, id, value])
    }
    stops.set(key, sources[topic](id, tell))
  })
  wire.on('unwatch', ([topic, id]: [NewsTopic, string]) => {
    const key = keyOf(topic, id)
    stops.get(key)?.()
    stops.delete(key)
  })
  void wire.closed.then(() => {
    for (const stop of stops.values()) stop()
    stops.clear()
  })
}

/** Progress as those see it who run no tasks: of tasks that are followed here, as they are told. */
export class ToldProgress implements ProgressView {
  /** Tasks that end in a second, where they run. */
  endsPerSecond = 0
  readonly #board: ProgressBoard
  readonly #desk: NewsDesk

  constructor(desk: NewsDesk, clock: Clock) {
    this.#desk = desk
    this.#board = new ProgressBoard(clock)
  }

  read(id: string): number | null {
    return this.#board.read(id)
  }

  watch(id: string, listener: () => void): () => void {
    const unwatchHere = this.#board.watch(id, listener)
    const unwatchThere = this.#desk.watch('progress', id, (tokens) => {
      // One that hears of it first tells all.
      if (tokens !== null && tokens !== this.#board.read(id)) this.#board.note(id, tokens)
    })
    return () => {
      unwatchHere()
      unwatchThere()
      if (!this.#board.isWatched(id)) this.#board.clear(id, { ended: false })
    }
  }
}
