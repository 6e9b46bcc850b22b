import type { LlamaGrammar } from 'node-llama-cpp'
import type { Clock } from '../src/core/clock.ts'
import { fail } from '../src/core/errors.ts'
import { adaptPromptTokens, type Pending } from './batch.ts'
import type { EndReason, Job, TokenLogprobs } from './job.ts'
import type { Native } from './native.ts'
import { LogprobProbe } from './probe.ts'
import { type Running, Sequence } from './sequence.ts'
import { chooseSlot } from './slots.ts'
import { planStep } from './step-plan.ts'

/** A step lasts about this long at most, so that an abort is seen well within 100 ms and streams stay smooth. */
const stepTargetMs = 40
const promptTokensFloor = 16

export type SchedulerParts = {
  native: Native
  clock: Clock
  slots: number
  waitingMax: number
  contextTokens: number
  batchTokens: number
  canCut: boolean
  isEnd: (token: number) => boolean
  endTokens: readonly number[]
  /** The state of a grammar at its beginning, for one reply. */
  openGrammar(grammar: LlamaGrammar): object
  observe: SchedulerObserver
}

export type SchedulerObserver = {
  onStep(step: { durationMs: number; tokens: number; sequences: number; generated: number }): void
  onPrompt(tokens: { read: number; cached: number }): void
}

/**
 * Continuous batching: all sequences advance by one batch at a time, new ones join and finished ones leave between
 * two batches. The only owner of the caches: they are touched between two decodings and never during one.
 */
export class Scheduler {
  readonly #parts: SchedulerParts
  readonly #slots: Sequence[]
  readonly #waiting: Job[] = []
  /** The job that is on its way from the line into a sequence. */
  #admitting: Job | null = null
  readonly #aborted = new Set<Job>()
  readonly #exclusive: (() => Promise<void>)[] = []
  readonly #probe: LogprobProbe
  #flushes: Job[] = []
  #promptTokensMax: number
  #step = 0
  /** Whether the last batch was a part of an exact prompt: the next one is for everybody else. */
  #readExact = false
  /** Tokens generated since the last report. */
  #generated = 0
  #looping = false
  #idle: (() => void)[] = []

  constructor(parts: SchedulerParts) {
    this.#parts = parts
    this.#promptTokensMax = Math.min(128, parts.batchTokens)
    const { native, contextTokens } = parts
    this.#slots = Array.from(
      { length: parts.slots },
      (_, index) => new Sequence({ index, native, contextTokens }),
    )
    this.#probe = new LogprobProbe(parts.native)
  }

  get counts(): { idle: number; processing: number; waiting: number } {
    const processing = this.#slots.filter((slot) => slot.running !== null).length
    return { idle: this.#slots.length - processing, processing, waiting: this.#waiting.length }
  }

  /** Sequences that one request can have: more could never be taken in, however long it waited. */
  get jobsMax(): number {
    return this.#slots.length + this.#parts.waitingMax
  }

  /**
   * Takes in all of `jobs`, or none. When `signal` aborts, those that wait leave at once and those that run leave
   * before the next batch; neither hears anything more.
   * @throws engine_overloaded when the waiting line has no room.
   */
  submit(jobs: readonly Job[], signal: AbortSignal): void {
    if (signal.aborted) return
    // Only those that find no idle sequence wait, and they stand behind everyone who waits already.
    const idle = this.counts.idle
    if (this.#waiting.length + jobs.length > this.#parts.waitingMax + idle) {
      throw fail('engine_overloaded', {
        message: `All ${this.#slots.length} sequences are busy and ${this.#waiting.length} wait already. Try again.`,
        retryAfterMs: 1000,
      })
    }
    this.#waiting.push(...jobs)
    signal.addEventListener('abort', () => this.#abort(jobs), { once: true })
    this.#wake()
  }

  /** Runs `work` between two batches: nothing is decoded meanwhile. */
  between<T>(work: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#exclusive.push(() => Promise.resolve().then(work).then(resolve, reject))
      this.#wake()
    })
  }

  /** Resolves when nothing runs and nothing waits. */
  whenIdle(): Promise<void> {
    return this.#looping ? new Promise((resolve) => this.#idle.push(resolve)) : Promise.resolve()
  }

  #abort(jobs: readonly Job[]): void {
    for (const job of jobs) {
      const at = this.#waiting.indexOf(job)
      if (at !== -1) this.#waiting.splice(at, 1)
      else if (job === this.#admitting || this.#slots.some((slot) => slot.running?.job === job)) {
        this.#aborted.add(job)
      }
    }
  }

  #wake(): void {
    if (this.#looping) return
    this.#looping = true
    // The next turn of the event loop: requests that arrive together start together.
    setImmediate(() => void this.#loop())
  }

  async #loop(): Promise<void> {
    while (true) {
      this.#sweep()
      for (let work = this.#exclusive.shift(); work; work = this.#exclusive.shift()) await work()
      await this.#admit()
      const { plan, companions, readsExact } = planStep(this.#slots, {
        wasExact: this.#readExact,
        batchTokens: this.#parts.batchTokens,
        promptTokensMax: this.#promptTokensMax,
      })
      this.#readExact = readsExact
      if (plan.length > 0) await this.#decodeStep(plan, companions)
      else if (this.#waiting.length === 0 && this.#exclusive.length === 0) break
      // Only a bug can leave work undone here; without this the loop would spin and the process be deaf.
      else await new Promise((resolve) => setImmediate(resolve))
    }
    this.#looping = false
    for (const resolve of this.#idle.splice(0)) resolve()
  }

  /** Aborted sequences leave; what they decoded stays in the cache for whoever comes with the same beginning. */
  #sweep(): void {
    if (this.#aborted.size === 0) return
    for (const slot of this.#slots) {
      if (slot.running && this.#aborted.has(slot.running.job)) this.#release(slot)
    }
    this.#aborted.clear()
  }

  async #admit(): Promise<void> {
    for (let i = 0; i < this.#waiting.length && this.counts.idle > 0;) {
      const job = this.#waiting[i] as Job
      if (job.after !== null && this.#isReading(job.after)) {
        i += 1
        continue
      }
      const views = this.#slots.map(({ held, usedAtStep, running }) => ({
        held,
        usedAtStep,
        busy: running !== null,
      }))
      // These need every position decoded anew: nothing in a cache is of use.
      const prompt = job.promptLogprobs || job.exact ? job.prompt.slice(0, 1) : job.prompt
      const choice = chooseSlot(views, prompt, { canCut: this.#parts.canCut })
      if (choice === null) return
      this.#waiting.splice(i, 1)
      const slot = this.#slots[choice.slot] as Sequence
      this.#admitting = job
      try {
        if (choice.copyFrom !== null) await slot.copyFrom(this.#slots[choice.copyFrom] as Sequence)
        // Its caller may have left while the copy was made.
        if (!this.#aborted.delete(job)) this.#start(slot, job, choice.keep)
      } catch (error) {
        this.#fail(slot, job, error)
      } finally {
        this.#admitting = null
      }
    }
  }

  /** Whether a job's prompt is not in the cache yet. */
  #isReading(job: Job): boolean {
    if (this.#waiting.includes(job)) return true
    return this.#slots.some((slot) => slot.running?.job === job && slot.running.generated === 0)
  }

  #start(slot: Sequence, job: Job, keep: number): void {
    const kept = slot.cut(keep)
    const sampler = this.#parts.native.createSampler(this.#samplerConfig(job))
    slot.running = {
      job,
      sampler,
      pending: job.prompt.slice(kept),
      generated: 0,
      promptLeft: job.promptLogprobs ? job.prompt.length - 1 : 0,
    }
    this.#parts.observe.onPrompt({ read: job.prompt.length - kept, cached: kept })
    job.sink.onStart(kept)
  }

  #samplerConfig(job: Job) {
    const config = { ...job.sampling }
    if (job.grammar !== null) config.grammarEvaluationState = this.#parts.openGrammar(job.grammar)
    if (job.ignoreEnd) {
      const { endTokens } = this.#parts
      config.tokenBiasKeys = Uint32Array.from([...(config.tokenBiasKeys ?? []), ...endTokens])
      config.tokenBiasValues = Float32Array.from([
        ...(config.tokenBiasValues ?? []),
        ...endTokens.map(() => -Infinity),
      ])
    }
    return config
  }

  #release(slot: Sequence): void {
    slot.running?.sampler.dispose()
    slot.running = null
    slot.usedAtStep = this.#step
  }

  async #decodeStep(plan: readonly Pending[], companions: readonly Sequence[]): Promise<void> {
    this.#step += 1
    const { clock, native, observe } = this.#parts
    const tokens = plan.reduce((sum, part) => sum + part.tokens, 0)
    const startedAtMs = clock.now()
    let handles: ArrayLike<number>[]
    try {
      native.initBatch(tokens + companions.length)
      handles = this.#fillBatch(plan, companions)
      const decoded = native.decodeBatch()
      // What the last step brought is written while this one is decoded on another core.
      this.#flush()
      await decoded
    } catch (error) {
      this.#flush()
      for (const slot of companions) slot.forget()
      return this.#decodeApart(plan, error)
    }
    for (const slot of companions) slot.restore()
    for (const part of plan) (this.#slots[part.slot] as Sequence).commit(part.tokens)
    await Promise.all(plan.map((part, i) => this.#sampleSlot(part, handles[i] as ArrayLike<number>)))
    const durationMs = clock.now() - startedAtMs
    observe.onStep({ durationMs, tokens, sequences: plan.length, generated: this.#generated })
    this.#generated = 0
    this.#promptTokensMax = adaptPromptTokens(
      this.#promptTokensMax,
      { tokens, durationMs },
      { targetMs: stepTargetMs, floor: promptTokensFloor, ceiling: this.#parts.batchTokens },
    )
    if (this.#slots.every((slot) => slot.running === null)) this.#flush()
  }

  /** Adds all tokens in the order of their sequences; returns the handles of each part of the plan. */
  #fillBatch(plan: readonly Pending[], companions: readonly Sequence[]): ArrayLike<number>[] {
    const handles: ArrayLike<number>[] = []
    const waiting = [...companions].sort((a, b) => a.index - b.index)
    for (const part of plan) {
      while (waiting[0] && waiting[0].index < part.slot) waiting.shift()?.addCompanion()
      handles.push((this.#slots[part.slot] as Sequence).addPending(part.tokens))
    }
    for (const slot of waiting) slot.addCompanion()
    return handles
  }

  /** A batch failed as a whole: each sequence is tried alone, so that one at fault takes no other with it. */
  async #decodeApart(plan: readonly Pending[], cause: unknown): Promise<void> {
    for (const part of plan) {
      const slot = this.#slots[part.slot] as Sequence
      const { job } = slot.running as Running
      if (plan.length === 1) {
        this.#fail(slot, job, cause)
        continue
      }
      try {
        if (!slot.restore()) throw cause
        this.#parts.native.initBatch(part.tokens)
        const handles = slot.addPending(part.tokens)
        await this.#parts.native.decodeBatch()
        slot.commit(part.tokens)
        await this.#sampleSlot(part, handles)
      } catch (error) {
        this.#fail(slot, job, error)
      }
    }
    this.#flush()
  }

  #fail(slot: Sequence, job: Job, error: unknown): void {
    this.#release(slot)
    slot.forget()
    job.sink.onError(error)
  }

  async #sampleSlot(part: Pending, handles: ArrayLike<number>): Promise<void> {
    const slot = this.#slots[part.slot] as Sequence
    const running = slot.running as Running
    const { job } = running
    try {
      if (running.promptLeft > 0) await this.#readPromptLogprobs(slot, running, part, handles)
      if (running.pending.length > 0) return
      if (job.tokensMax === 0) return this.#end(slot, 'length')
      const handle = handles[handles.length - 1] as number
      const token = await this.#parts.native.sampleToken(handle, running.sampler)
      if (token < 0) throw new Error('no token is possible here')
      const logprobs =
        job.topLogprobs === null ? null : await this.#probe.read(handle, token, job.topLogprobs)
      this.#accept(slot, running, token, logprobs)
    } catch (error) {
      this.#fail(slot, job, error)
    }
  }

  #accept(slot: Sequence, running: Running, token: number, logprobs: TokenLogprobs | null): void {
    const { job } = running
    if (this.#aborted.has(job)) return
    running.generated += 1
    if (this.#parts.isEnd(token)) return this.#end(slot, 'end')
    this.#generated += 1
    this.#flushes.push(job)
    if (!job.sink.onToken(token, logprobs)) return this.#end(slot, 'enough')
    if (running.generated >= job.tokensMax) return this.#end(slot, 'length')
    running.pending = [token]
  }

  #end(slot: Sequence, reason: EndReason): void {
    const job = (slot.running as Running).job
    this.#release(slot)
    job.sink.onEnd(reason)
    this.#flushes.push(job)
  }

  #flush(): void {
    if (this.#flushes.length === 0) return
    const jobs = this.#flushes
    this.#flushes = []
    for (const job of jobs) {
      if (this.#aborted.has(job)) continue
      // A batch may be under way: a fault in writing must not end the loop, nor be taken for one of decoding.
      try {
        job.sink.onFlush()
      } catch (error) {
        this.#aborted.add(job)
        job.sink.onError(error)
      }
    }
  }

  async #readPromptLogprobs(slot: Sequence, running: Running, part: Pending, handles: ArrayLike<number>) {
    const { job } = running
    const first = slot.held.length - part.tokens
    const found: TokenLogprobs[] = []
    for (let i = 0; i < part.tokens; i += 1) {
      const next = job.prompt[first + i + 1]
      // Behind the last prompt token comes the first generated one, which is sampled and not read.
      if (next === undefined) break
      found.push(await this.#probe.read(handles[i] as number, next, job.topLogprobs ?? 0))
    }
    running.promptLeft -= found.length
    job.sink.onPromptLogprobs?.(found)
  }

  /** Ends the loop's use of native memory; nothing may run or wait. */
  dispose(): void {
    this.#probe.dispose()
  }
}
