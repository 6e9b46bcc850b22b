import type { Clock } from '../../core/clock.ts'
import { fail } from '../../core/errors.ts'
import { isLastEvent, packEvent, typeOfEvent } from '../../router/responses/events.ts'
import { describeResponse } from '../../router/responses/response.ts'
import type { Store } from '../../storage/store.ts'
import type { TaskDetail } from '../../storage/task-store.ts'
import { isFinal } from '../../storage/task-states.ts'
import { askStore } from '../ask-store.ts'
import type { ResponseEventLog } from './event-log.ts'
import { describeTaskResponse, readTaskRequest, toResponseId } from './task-response.ts'

/** `created` and `queued` are told of every task, whether it has begun or not; they are not kept. */
const leadEvents = 2
/** How soon, and how late, the storage is asked again when nobody in this process tells of an event. */
const pollMs = { first: 50, last: 1_000 } as const

/** What a reader holds while it is slow: as many events as fit into this many characters, and one at least. */
const pageCharsMax = 256 * 1024
const pageMax = 256

type NumberedEvent = { sequenceNumber: number; packed: string }

/** What is kept of a task for as long as somebody follows it: neither its body nor its result. */
export type Followed = {
  taskId: string
  tenant: string
  /** The first two events, which say what was asked for; let go when they have been told. */
  lead: string[]
}

type FollowParts = { store: Store; log: ResponseEventLog; clock: Clock }

/**
 * The events of a background stream after the one with this number: those kept, then those to come, up to the last.
 * The stream of a task that ended without a last word of its own (cancelled, expired, given up) gets one here.
 * Ends early when `signal` aborts. Ask `isOverAt` first.
 */
export async function* followEvents(
  parts: FollowParts,
  { followed, after }: { followed: Followed; after: number },
  signal: AbortSignal,
): AsyncGenerator<NumberedEvent, void, undefined> {
  const { store, log } = parts
  const { taskId, lead } = followed
  const responseId = toResponseId(taskId)
  for (let sequenceNumber = 0; lead.length > 0; sequenceNumber += 1) {
    const packed = lead.shift() as string
    if (sequenceNumber > after) yield { sequenceNumber, packed }
  }
  let number = toPieceNumber(after)
  const bell = new Bell(parts.clock, signal)
  const unwatch = log.watch(responseId, bell.ring)
  const unlisten = store.onWake((wake) => {
    if (wake.kind === 'changed' && wake.id === taskId) bell.ring()
  })
  try {
    let waitMs: number = pollMs.first
    let limit = pageMax
    while (!signal.aborted) {
      // Asked before the events: those of an ended task are all there when it is known to have ended.
      const current = await askStore(() => store.tasks.find(taskId))
      const { page, fits } = await readPage(log, responseId, { after: number, limit })
      limit = Math.min(fits * 2, pageMax)
      for (const piece of page) {
        number = piece.number
        yield { sequenceNumber: number + leadEvents - 1, packed: piece.packed }
        if (isLastEvent(typeOfEvent(piece.packed))) return
      }
      if (page.length > 0) {
        waitMs = pollMs.first
      } else if (!current || isFinal(current.status)) {
        yield { sequenceNumber: number + leadEvents, packed: await describeEnd(store, followed) }
        return
      } else {
        const hasNews = await bell.wait(waitMs)
        waitMs = hasNews ? pollMs.first : Math.min(waitMs * 2, pollMs.last)
      }
    }
  } finally {
    unwatch()
    unlisten()
    bell.close()
  }
}

/** The next events, and how many of them a slow reader may hold at once. The rest is read again when it is wanted. */
async function readPage(
  log: ResponseEventLog,
  responseId: string,
  { after, limit }: { after: number; limit: number },
): Promise<{ page: { number: number; packed: string }[]; fits: number }> {
  const page = await log.read(responseId, after, limit)
  let fits = 0
  for (let chars = 0; fits < page.length; fits += 1) {
    chars += page[fits]?.packed.length ?? 0
    if (chars > pageCharsMax && fits > 0) return { page: page.slice(0, fits), fits }
  }
  return { page, fits: limit }
}

/** The number of the piece that holds an event; 0 for those that are not kept. */
const toPieceNumber = (sequenceNumber: number) => Math.max(0, sequenceNumber - leadEvents + 1)

/**
 * Whether nothing comes after the event with this number: it was the last kept, or told of the end of a task that had
 * no last word of its own. Throws invalid_request for the number of an event that there has not been yet.
 */
export async function isOverAt(parts: FollowParts, { taskId }: Followed, after: number): Promise<boolean> {
  const number = toPieceNumber(after)
  if (number === 0) return false
  const [piece] = await parts.log.read(toResponseId(taskId), number - 1, 1)
  if (piece) return isLastEvent(typeOfEvent(piece.packed))
  const current = await askStore(() => parts.store.tasks.find(taskId))
  if (!current || isFinal(current.status)) return true
  throw fail('invalid_request', {
    message: '`starting_after` must be the number of an event that has been sent.',
    param: 'starting_after',
  })
}

/** What there is to follow. Let go of the detail: it holds the body and the result. */
export function toFollowed({ task, payload }: TaskDetail): Followed {
  const request = readTaskRequest(payload)
  if (!request) throw fail('internal')
  const identity = { id: toResponseId(task.id), createdAtMs: task.createdAtMs }
  const response = describeResponse(request, identity, { status: 'queued' })
  const lead = ['response.created', 'response.queued'].map((type) => packEvent({ type, response }))
  return { taskId: task.id, tenant: task.tenant, lead }
}

async function describeEnd(store: Store, { tenant, taskId }: Followed): Promise<string> {
  const detail = await askStore(() => store.tasks.get(tenant, taskId))
  const request = detail && readTaskRequest(detail.payload)
  if (!detail || !request) {
    const message = 'The response was deleted.'
    return packEvent({ type: 'error', code: 'response_not_found', message, param: null })
  }
  const response = describeTaskResponse(detail.task, request, detail.result)
  const isWhole = response.status === 'completed' || response.status === 'incomplete'
  return packEvent({ type: isWhole ? `response.${response.status}` : 'response.failed', response })
}

/** Wakes one follower, and for good when `signal` aborts. What rings between two waits is not lost. */
class Bell {
  readonly #clock: Clock
  readonly #signal: AbortSignal
  #hasRung = false
  #wake: (() => void) | null = null

  constructor(clock: Clock, signal: AbortSignal) {
    this.#clock = clock
    this.#signal = signal
    signal.addEventListener('abort', this.ring)
  }

  readonly ring = (): void => {
    this.#hasRung = true
    this.#wake?.()
  }

  /** Resolves after `ms` at the latest; with whether it rang. */
  async wait(ms: number): Promise<boolean> {
    if (!this.#hasRung) {
      await new Promise<void>((resolve) => {
        const cancelTimer = this.#clock.after(ms, resolve)
        this.#wake = () => {
          cancelTimer()
          resolve()
        }
      })
    }
    this.#wake = null
    const hasRung = this.#hasRung
    this.#hasRung = false
    return hasRung
  }

  close(): void {
    this.#signal.removeEventListener('abort', this.ring)
  }
}
