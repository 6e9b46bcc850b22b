import type { Clock } from '../../core/clock.ts'
import type { Store } from '../../storage/store.ts'
import { liveStatuses } from '../../storage/task-states.ts'
import { makeTaskId } from '../../storage/task-id.ts'
import type { Queue } from '../queue.ts'
import { endOf, moveBatch, nextStep, type Batch } from './batch.ts'
import { feedPiece, refusalsId } from './feed-lines.ts'
import { makeFileId, type FileStore } from './file-store.ts'
import type { HeldBatch } from './held-batch.ts'
import { inputMissing, validateInput, type InputLimits } from './validate-input.ts'
import { writeResults } from './write-results.ts'

type WorkParts = {
  store: Store
  queue: Pick<Queue, 'submitAll' | 'cancel'>
  files: FileStore
  clock: Clock
  /** Tasks of one batch that wait or run at once. */
  liveTasksMax: number
  limits: () => InputLimits
  mayAppear: () => boolean
}

/** `later` carries what stands in the way. */
export type WorkOutcome = { kind: 'idle' } | { kind: 'later'; error: Error; retryAfterMs: number | null }

const idle = { kind: 'idle' } as const
/** Tasks that are cancelled together. */
const cancelsAtOnce = 100

/**
 * Does for a batch what can be done now, step by step, each ending in a versioned write. A step that breaks off is
 * done anew from its beginning: tasks are known by their keys, and blobs that were begun are noted as scraps before
 * their first byte and removed. Ends after one round of feeding, so that a long batch lets the others have a turn.
 */
export async function workOn(parts: WorkParts, held: HeldBatch, signal: AbortSignal): Promise<WorkOutcome> {
  for (;;) {
    signal.throwIfAborted()
    const { batch } = held
    const tasks = await parts.store.tasks.count(batch.tenant, batch.id)
    const live = tasks.delayed + tasks.queued + tasks.running
    const step = nextStep(batch, live, parts.clock.wallMs(), parts.liveTasksMax)
    switch (step.kind) {
      case 'validate':
        await validate(parts, held, signal)
        break
      case 'feed':
        return feed(parts, held, step.room, signal)
      case 'finalize':
        await held.change(only('in_progress', (now) => moveBatch(now, 'finalizing', parts.clock.wallMs())))
        break
      case 'cancel_tasks':
        if ((await cancelTasks(parts, held, signal)) > 0) return idle
        break
      case 'write':
        await write(parts, held, signal)
        break
      case 'publish':
        await publish(parts, held)
        break
      case 'wait':
        await held.renew()
        return idle
      case 'none':
        return idle
    }
  }
}

/** A change that is made only while the batch is still in the state it was decided for. */
const only =
  (status: Batch['status'], apply: (batch: Batch) => Batch) =>
  (batch: Batch): Batch | null =>
    batch.status === status ? apply(batch) : null

async function validate(parts: WorkParts, held: HeldBatch, signal: AbortSignal): Promise<void> {
  const { store, clock } = parts
  await dropScraps(parts, held)
  const indexId = makeTaskId('index', clock.wallMs())
  const noted = only('validating', (batch) => ({ ...batch, scraps: [...batch.scraps, indexId] }))
  if (!(await held.change(noted))) return
  const { batch } = held
  const input = await store.documents.get('file', batch.tenant, batch.inputFileId)
  const fileBytes = input ? (JSON.parse(input.data) as { bytes: number }).bytes : -1
  const found = await validateInput(
    store,
    { batch, indexId, fileBytes },
    parts.limits(),
    pauseOf(held, signal),
  )
  const failure = input ? found.failure : inputMissing
  if (failure) await dropScraps(parts, held)
  const { errors, lines, pieces } = found
  await held.change(
    only('validating', (now) =>
      failure
        ? {
            ...moveBatch(now, 'failed', clock.wallMs()),
            errors: [{ ...failure, line: null }, ...errors],
            lines: { ...lines, refused: 0 },
          }
        : {
            ...moveBatch(now, 'in_progress', clock.wallMs()),
            errors,
            lines: { ...lines, refused: 0 },
            index: { id: indexId, pieces },
            scraps: now.scraps.filter((id) => id !== indexId),
          },
    ),
    { expiresAtMs: failure ? parts.files.expiryOf(batch.tenant, clock.wallMs(), null) : null },
  )
}

async function feed(
  parts: WorkParts,
  held: HeldBatch,
  room: number,
  signal: AbortSignal,
): Promise<WorkOutcome> {
  const { jsonDepthMax } = parts.limits()
  for (let left = room; left > 0;) {
    signal.throwIfAborted()
    const { batch } = held
    const piece = batch.fed + 1
    if (batch.status !== 'in_progress' || piece > (batch.index?.pieces ?? 0)) return idle
    const fed = await feedPiece({ ...parts, jsonDepthMax }, batch, piece)
    if (fed.kind === 'later') return { ...fed, retryAfterMs: fed.error.retryAfterMs }
    left -= fed.tasks
    await held.change((now) => {
      if (now.status !== 'in_progress' || now.fed !== piece - 1) return null
      return { ...now, fed: piece, lines: { ...now.lines, refused: now.lines.refused + fed.refused } }
    })
  }
  return idle
}

/** Asks for the end of all tasks that live; says how many of them there were. */
async function cancelTasks(
  { store, queue }: WorkParts,
  held: HeldBatch,
  signal: AbortSignal,
): Promise<number> {
  const { tenant, id } = held.batch
  let count = 0
  let after: string | undefined
  for (;;) {
    signal.throwIfAborted()
    await held.renew()
    const page = await store.tasks.list({
      tenant,
      parent: id,
      statuses: liveStatuses,
      limit: cancelsAtOnce,
      ascending: true,
      ...(after ? { after } : {}),
    })
    count += page.length
    // One that was removed meanwhile needs no cancelling.
    const asked = page
      .filter(({ cancelRequested }) => !cancelRequested)
      .map((task) => queue.cancel(tenant, task.id))
    await Promise.allSettled(asked)
    if (page.length < cancelsAtOnce) return count
    after = page.at(-1)?.id
  }
}

async function write(parts: WorkParts, held: HeldBatch, signal: AbortSignal): Promise<void> {
  const { store, clock } = parts
  await dropScraps(parts, held)
  const nowMs = clock.wallMs()
  const ids = [makeFileId(nowMs), makeFileId(nowMs)] as const
  // Ids of this attempt alone: bytes of one that was interrupted never mix with those of the next.
  await held.change((batch) => (batch.results ? null : { ...batch, scraps: [...batch.scraps, ...ids] }))
  const { batch } = held
  const isLate = nowMs >= batch.expiresAtMs
  const target = { outputId: ids[0], errorsId: ids[1], isLate }
  const written = await writeResults(store, batch, target, pauseOf(held, signal))
  await held.change((now) =>
    now.results || !ids.every((id) => now.scraps.includes(id))
      ? null
      : { ...now, ...written, scraps: now.scraps.filter((id) => !(ids as readonly string[]).includes(id)) },
  )
}

/** The bytes are on disk and the batch says so: what is left can be done any number of times. */
async function publish(parts: WorkParts, held: HeldBatch): Promise<void> {
  const { store, files, clock } = parts
  const { batch } = held
  const { results, tenant, id } = batch
  if (!results) return
  const nowMs = clock.wallMs()
  for (const [name, file] of [
    ['output', results.output],
    ['errors', results.errors],
  ] as const) {
    if (file.lines === 0) continue
    await files.publish({
      id: file.id,
      tenant,
      filename: `${id}_${name}.jsonl`,
      purpose: 'batch_output',
      bytes: file.bytes,
      createdAtMs: nowMs,
      expiresAtMs: files.expiryOf(tenant, nowMs, batch.outputKeepMs),
    })
  }
  await dropScraps(parts, held)
  if (batch.index) await store.blobs.remove(batch.index.id)
  await store.blobs.remove(refusalsId(id))
  await held.change((now) => (now.results ? moveBatch(now, endOf(now), nowMs) : null), {
    expiresAtMs: files.expiryOf(tenant, nowMs, null),
  })
}

/** Removes what interrupted attempts, or this one in vain, have written. */
async function dropScraps({ store }: WorkParts, held: HeldBatch): Promise<void> {
  const { scraps } = held.batch
  if (scraps.length === 0) return
  for (const id of scraps) await store.blobs.remove(id)
  await held.change((batch) => ({ ...batch, scraps: batch.scraps.filter((id) => !scraps.includes(id)) }))
}

const pauseOf = (held: HeldBatch, signal: AbortSignal) => async () => {
  signal.throwIfAborted()
  await held.renew()
}
