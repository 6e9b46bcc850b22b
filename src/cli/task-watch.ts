import { systemClock } from '../core/clock.ts'
import { SetupError } from '../core/errors.ts'
import { findServer, type Server } from './api-client.ts'
import { readNamedEvents } from './event-reader.ts'
import { askOnce, keepTrying, PassingFailure, patienceMsMax, type Patience } from './patience.ts'
import { keepText } from './plain-text.ts'
import { makeStatusLine } from './progress.ts'
import { formatEvent, readText, type ShownEvent, type ShownTask } from './task-text.ts'

export type WatchOptions = { url?: string; json?: boolean }

export async function watchTask(id: string, options: WatchOptions): Promise<number> {
  return followTask(findServer(options.url, process.env), id, { json: options.json ?? false })
}

const exitInterrupted = 130

/** Follows a task to its end: states to standard error, the result to standard output. 0 when it succeeded. */
export async function followTask(server: Server, id: string, { json }: { json: boolean }): Promise<number> {
  const stop = new AbortController()
  const onInterrupt = () => stop.abort()
  process.once('SIGINT', onInterrupt)
  try {
    const task = await readToEnd(server, id, stop.signal)
    if (json) process.stdout.write(`${JSON.stringify(task, null, 2)}\n`)
    else if (task.result !== null && task.result !== undefined) {
      const said = readText(task.result)
      process.stdout.write(`${process.stdout.isTTY ? keepText(said) : said}\n`)
    }
    return task.status === 'succeeded' ? 0 : 1
  } catch (error) {
    if (!stop.signal.aborted) throw error
    process.stderr.write(`\nno longer watched; the task goes on\n`)
    return exitInterrupted
  } finally {
    process.off('SIGINT', onInterrupt)
  }
}

/** Shows what happens, over as many connections as it takes, and resolves with the task at its end. */
async function readToEnd(server: Server, id: string, signal: AbortSignal): Promise<ShownTask> {
  const screen = new Screen()
  const place: Place = { lastEventId: null, wasThere: false }
  for (;;) {
    // A connection that brought something starts the patience anew.
    const before = place.lastEventId
    const patience: Patience = {
      clock: systemClock,
      signal,
      get limitMs() {
        return place.wasThere ? patienceMsMax : 0
      },
      onWait: (reason) => screen.note(`${reason}; trying again`),
    }
    const task = await keepTrying(patience, async () => {
      const ended = await readOnce(server, id, { place, screen, signal })
      if (ended || place.lastEventId !== before) return ended
      throw new PassingFailure(new SetupError(`${server.url} ended the events of ${id} too early`))
    })
    if (task) return task
  }
}

/** `wasThere`: the server has answered once, so that it is worth waiting for. */
type Place = { lastEventId: string | null; wasThere: boolean }

/** One connection; null when it was lost before the result. */
async function readOnce(
  server: Server,
  id: string,
  { place, screen, signal }: { place: Place; screen: Screen; signal: AbortSignal },
): Promise<ShownTask | null> {
  const headers: Record<string, string> = { accept: 'text/event-stream' }
  if (place.lastEventId !== null) headers['last-event-id'] = place.lastEventId
  const path = `/v1/tasks/${encodeURIComponent(id)}/events`
  const response = await askOnce(server, path, { headers, signal })
  place.wasThere = true
  if (response.body === null) return null
  try {
    for await (const { event, id: eventId, data } of readNamedEvents(response.body)) {
      const value: unknown = JSON.parse(data)
      if (eventId !== null) place.lastEventId = eventId
      if (event === 'state') screen.state(value as ShownEvent)
      if (event === 'progress') screen.progress((value as { completion_tokens: number }).completion_tokens)
      if (event === 'result') return value as ShownTask
    }
  } catch (error) {
    signal.throwIfAborted()
    // A half-read answer: the connection went away. What is not JSON is no event of ours.
    if (error instanceof SyntaxError) throw new SetupError(`${server.url} sent an event that is not JSON`)
  }
  return null
}

/** States as lines, progress as one line that changes; nothing but the result goes to standard output. */
class Screen {
  #show = makeStatusLine(process.stderr, systemClock)
  #isAmid = false

  state(event: ShownEvent): void {
    this.note(formatEvent(event))
  }

  progress(tokens: number): void {
    if (!process.stderr.isTTY) return
    this.#show(`${tokens} tokens`, false)
    this.#isAmid = true
  }

  note(text: string): void {
    process.stderr.write(`${this.#isAmid ? '\r\u001b[2K' : ''}${keepText(text)}\n`)
    this.#isAmid = false
  }
}
