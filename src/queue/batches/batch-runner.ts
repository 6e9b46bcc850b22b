import type { Clock } from '../../core/clock.ts'
import { ApiError } from '../../core/errors.ts'
import { makeId } from '../../core/ids.ts'
import type { Service } from '../../core/service.ts'
import { StoreUnavailable, type Document, type Store } from '../../storage/store.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { Queue } from '../queue.ts'
import { workOn, type WorkOutcome } from './batch-work.ts'
import { batchLimits } from './batches.ts'
import type { FileStore } from './file-store.ts'
import { BatchLost, HeldBatch } from './held-batch.ts'
import type { InputLimits } from './validate-input.ts'

export type BatchRunnerOptions = {
  linesMax: number
  /** Lines of a batch whose errors its object names; the error file has all of them. */
  errorsShownMax: number
  /** Tasks of one batch that wait or run at once. */
  liveTasksMax: number
  /** How much of the input becomes tasks in one commit. */
  piece: { lines: number; bytes: number }
  /** Batches that are worked on at once. */
  workersMax: number
  /** How long a process may be silent before another goes on with its batches. */
  leaseMs: number
  pollMs: number
  /** Changes of tasks are looked at together, this long after the first of them. */
  gatherMs: number
  retryMsMax: number
}

const batchRunnerDefaults: BatchRunnerOptions = {
  linesMax: 50_000,
  errorsShownMax: 100,
  liveTasksMax: 2_000,
  piece: { lines: 100, bytes: 4_194_304 },
  workersMax: 4,
  leaseMs: 30_000,
  pollMs: 1_000,
  gatherMs: 100,
  retryMsMax: 30_000,
}

type BatchRunnerParts = {
  store: Store
  queue: Pick<Queue, 'submitAll' | 'cancel'>
  files: FileStore
  clock: Clock
  log: Logger
  settings: () => { lineBytesMax: number; jsonDepthMax: number }
  /** Whether all instances have said which models they serve: before that, an unknown model may still appear. */
  knowsModels: () => boolean
  options?: Partial<BatchRunnerOptions>
}

/** How long after the start an instance may keep a batch waiting by not saying which models it serves. */
const modelsMsMax = 60_000

/** Carries the batches of all tenants from their first line to their files of results. */
export class BatchRunner implements Service {
  readonly name = 'batches'
  readonly #parts: BatchRunnerParts
  readonly #options: BatchRunnerOptions
  readonly #owner = makeId('runner')
  /** Batches that something stood in the way of, and when they are tried again: monotonic, for a wall clock may be set. */
  readonly #waiting = new Map<string, { failures: number; untilMs: number }>()
  #stopping = new AbortController()
  #startedAtMs = 0
  #ends: (() => void)[] = []
  #pass: Promise<void> | null = null
  #isAskedAgain = false
  #isGathering = false
  #isAway = false
  #isAlone = false

  constructor(parts: BatchRunnerParts) {
    this.#parts = parts
    this.#options = { ...batchRunnerDefaults, ...parts.options }
  }

  async start(): Promise<void> {
    const { clock, store } = this.#parts
    if (this.#ends.length > 0) return
    // Nobody else works on an embedded store: what a process that was killed has held is gone on with at once.
    this.#isAlone = (await store.maintenance.describe()).driver === 'sqlite'
    this.#stopping = new AbortController()
    this.#startedAtMs = clock.now()
    this.#ends = [
      clock.every(this.#options.pollMs, () => this.wake()),
      store.onWake((wake) => {
        if (wake.kind === 'changed' && wake.parent !== null) this.#gather()
      }),
    ]
    this.wake()
  }

  async stop(): Promise<void> {
    for (const end of this.#ends.splice(0)) end()
    this.#stopping.abort(new BatchLost('the runner stops'))
    await this.#pass
    await this.#release().catch((err: unknown) => this.#parts.log.warn({ err }, 'giving back batches failed'))
  }

  /** Looks at all batches soon; in a look that goes on, once more after it. */
  wake(): void {
    if (this.#stopping.signal.aborted || this.#ends.length === 0) return
    if (this.#pass) {
      this.#isAskedAgain = true
      return
    }
    this.#pass = this.look()
      .then(() => {
        this.#isAway = false
      })
      .catch((error: unknown) => this.#noteFailure(error))
      .finally(() => {
        this.#pass = null
        if (!this.#isAskedAgain) return
        this.#isAskedAgain = false
        this.#gather()
      })
  }

  /** One look at all batches that are not over; resolves when all that can be done now is done. */
  async look(): Promise<void> {
    const documents = await this.#parts.store.documents.listOpen('batch', batchLimits.openMax)
    const open = new Set(documents.map(({ id }) => id))
    for (const id of this.#waiting.keys()) if (!open.has(id)) this.#waiting.delete(id)
    const queue = documents.values()
    const worker = async () => {
      for (const document of queue) await this.#work(document)
    }
    await Promise.all(Array.from({ length: this.#options.workersMax }, worker))
  }

  async #work(document: Document): Promise<void> {
    const { clock, log } = this.#parts
    const { id } = document
    if ((this.#waiting.get(id)?.untilMs ?? 0) > clock.now() || this.#stopping.signal.aborted) return
    const held = this.#hold(document)
    let outcome: WorkOutcome
    try {
      if (!(await held.take(this.#isAlone))) return
      outcome = await workOn(this.#workParts(), held, this.#stopping.signal)
    } catch (error) {
      if (error instanceof BatchLost) return
      outcome = { kind: 'later', error: error as Error, retryAfterMs: null }
    }
    if (outcome.kind === 'idle') {
      this.#waiting.delete(id)
      return
    }
    const failures = (this.#waiting.get(id)?.failures ?? 0) + 1
    // Looked at again before long in any case: a budget may be raised, and the batch may expire.
    const delayMs = Math.min(outcome.retryAfterMs ?? 500 * 2 ** failures, this.#options.retryMsMax)
    this.#waiting.set(id, { failures, untilMs: clock.now() + delayMs })
    const { error } = outcome
    if (error instanceof ApiError) log.info({ batch: id, code: error.code, delayMs }, 'a batch waits')
    else if (error instanceof StoreUnavailable)
      log.warn({ batch: id, reason: error.message, delayMs }, 'a batch waits for the store')
    else log.error({ batch: id, err: error, delayMs }, 'work on a batch failed')
  }

  /** A storage that is away is told of once, and not at every look. */
  #noteFailure(error: unknown): void {
    const { log } = this.#parts
    if (!(error instanceof StoreUnavailable)) log.error({ err: error }, 'looking for batches failed')
    else if (!this.#isAway) log.warn({ reason: error.message }, 'batches wait: the storage is away')
    this.#isAway = error instanceof StoreUnavailable
  }

  #workParts() {
    const { store, queue, files, clock, settings, knowsModels } = this.#parts
    const { linesMax, errorsShownMax, piece, liveTasksMax } = this.#options
    return {
      ...{ store, queue, files, clock, liveTasksMax },
      limits: (): InputLimits => ({ linesMax, errorsShownMax, piece, ...settings() }),
      mayAppear: () => !knowsModels() && clock.now() - this.#startedAtMs < modelsMsMax,
    }
  }

  #hold(document: Document): HeldBatch {
    const { store, clock } = this.#parts
    return new HeldBatch({ store, clock, owner: this.#owner, leaseMs: this.#options.leaseMs, document })
  }

  /** Gives back what this process holds, so that another goes on at once. */
  async #release(): Promise<void> {
    for (const document of await this.#parts.store.documents.listOpen('batch', batchLimits.openMax)) {
      await this.#hold(document).release()
    }
  }

  #gather(): void {
    if (this.#isGathering) return
    this.#isGathering = true
    this.#parts.clock.after(this.#options.gatherMs, () => {
      this.#isGathering = false
      this.wake()
    })
  }
}
