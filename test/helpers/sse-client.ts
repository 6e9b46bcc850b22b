import { readNamedEvents, type ReadEvent } from '../../src/cli/event-reader.ts'

export type SeenEvent = { event: string; id: string | null; data: Record<string, unknown> }

/** A reader of one stream of events, one at a time. */
export class EventClient implements AsyncDisposable {
  readonly #abort: AbortController
  readonly #events: AsyncGenerator<ReadEvent>

  private constructor(response: Response, abort: AbortController) {
    this.#abort = abort
    if (!response.body) throw new Error('no body')
    this.#events = readNamedEvents(response.body)
  }

  static async open(url: string, headers: Record<string, string> = {}): Promise<EventClient> {
    const abort = new AbortController()
    const response = await fetch(url, { headers, signal: abort.signal })
    if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`)
    return new EventClient(response, abort)
  }

  /** Null at the end of the stream. */
  async next(): Promise<SeenEvent | null> {
    const { value, done } = await this.#events.next()
    return done ? null : { ...value, data: JSON.parse(value.data) as Record<string, unknown> }
  }

  async rest(): Promise<SeenEvent[]> {
    const seen: SeenEvent[] = []
    for (let event = await this.next(); event; event = await this.next()) seen.push(event)
    return seen
  }

  /** Hangs up. */
  close(): void {
    this.#abort.abort()
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close()
    return Promise.resolve()
  }
}
