import { strict as assert } from 'node:assert'
import type { LlamaGrammar } from 'node-llama-cpp'
import type { Clock } from '../src/core/clock.ts'
import { fail } from '../src/core/errors.ts'
import { adaptPromptTokens, planBatch, planCompanions, type Pending } from './batch.ts'
import type { EndReason, Job, TokenLogprobs } from './job.ts'
import type { Native, Sampler } from './native.ts'
import { chooseSlot } from './slots.ts'

/** A step lasts about this long at most, so that an abort is seen well within 100 ms and streams stay smooth. */
const stepTargetMs = 40
const promptTokensFloor = 16
/** Parts in which the prompts of exact jobs are read. */
const exactPromptTokens = 64

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

type Running = {
  job: Job
  sampler: Sampler
  /** Tokens to decode next. */
  pending: number[]
  generated: number
  /** Prompt tokens whose log probabilities are still to come; 0 once the prompt is read. */
  promptLeft: number
}

type Slot = { index: number; held: number[]; usedAtStep: number; running: Running | null }

type Waiting = { job: Job; aborted: boolean }

/** One token and the index of its logits: what a generating sequence adds to a batch. Copied by the callee. */
const oneToken = new Uint32Array(1)
const firstIndex = Uint32Array.of(0)
const noIndex = new Uint32Array(0)

/**
 * Continuous batching: all sequences advance by one batch at a time, new ones join and finished ones leave between
 * two batches. The only owner of the caches: they are touched between two decodings and never during one.
 */
export class Scheduler {
  readonly #parts: SchedulerParts
  readonly #slots: Slot[]
  readonly #waiting: Waiting[] = []
  readonly #aborted = new Set<Job>()
  readonly #exclusive: (() => Promise<void>)[] = []
  readonly #probe: Sampler
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
    this.#slots = Array.from({ length: parts.slots }, (_, index) => ({
      index,
      held: [],
      usedAtStep: 0,
      running: null,
    }))
    // Greedy sampling leaves the logits as they are, so this sampler can read them.
    this.#probe = parts.native.createSampler({ temperature: 0, seed: 0 })
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
    for (const job of jobs) this.#waiting.push({ job, aborted: false })
    signal.addEventListener('abort', () => this.#abort(jobs), { once: true })
    this.#wake()
  }

  /** Runs `work` between two batches: nothing is decoded meanwhile. */
  between<T>(work: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#exclusive.push(() => work().then(resolve, reject))
      this.#wake()
    })
  }

  /** Resolves when nothing runs and nothing waits. */
  whenIdle(): Promise<void> {
    return this.#looping ? new Promise((resolve) => this.#idle.push(resolve)) : Promise.resolve()
  }

  #abort(jobs: readonly Job[]): void {
    for (const job of jobs) {
      const at = this.#waiting.findIndex((waiting) => waiting.job === job)
      if (at !== -1) this.#waiting.splice(at, 1)
      else if (this.#slots.some((slot) => slot.running?.job === job)) this.#aborted.add(job)
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
      const { plan, companions } = this.#plan()
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
    for (let i = 0; i < this.#waiting.length;) {
      const { job } = this.#waiting[i] as Waiting
      if (job.after !== null && this.#isReading(job.after)) {
        i += 1
        continue
      }
      const views = this.#slots.map((slot) => ({ ...slot, busy: slot.running !== null }))
      // These need every position decoded anew: nothing in a cache is of use.
      const prompt = job.promptLogprobs || job.exact ? job.prompt.slice(0, 1) : job.prompt
      const choice = chooseSlot(views, prompt, { canCut: this.#parts.canCut })
      if (choice === null) return
      this.#waiting.splice(i, 1)
      const slot = this.#slots[choice.slot] as Slot
      try {
        if (choice.copyFrom !== null) await this.#copy(slot, this.#slots[choice.copyFrom] as Slot)
        this.#start(slot, job, choice.keep)
      } catch (error) {
        this.#forget(slot)
        job.sink.onError(error)
      }
    }
  }

  /** Whether a job's prompt is not in the cache yet. */
  #isReading(job: Job): boolean {
    if (this.#waiting.some((waiting) => waiting.job === job)) return true
    return this.#slots.some((slot) => slot.running?.job === job && slot.running.generated === 0)
  }

  async #copy(target: Slot, source: Slot): Promise<void> {
    // A copy onto what is there already would mix the two.
    this.#forget(target)
    await this.#parts.native.copySequence(target.index, source.index)
    target.held = source.held.slice()
  }

  #start(slot: Slot, job: Job, keep: number): void {
    const kept = this.#cut(slot, keep)
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

  /** Cuts the cache of a slot to its first `keep` tokens; returns how many are left in truth. */
  #cut(slot: Slot, keep: number): number {
    if (keep === slot.held.length) return keep
    if (keep > 0 && this.#parts.native.cutSequence(slot.index, keep)) {
      slot.held.length = keep
      return keep
    }
    this.#forget(slot)
    return 0
  }

  #forget(slot: Slot): void {
    this.#parts.native.clearSequence(slot.index)
    slot.held = []
  }

  #release(slot: Slot): void {
    slot.running?.sampler.dispose()
    slot.running = null
    slot.usedAtStep = this.#step
  }

  /**
   * The next batch. Prompts of exact jobs are read alone and in parts of one size, in turn with all others: what
   * stands in the same batch, and how a prompt is cut, changes the last bits of the result.
   */
  #plan(): { plan: Pending[]; companions: Slot[] } {
    const pending: Pending[] = []
    let exact: Pending | null = null
    for (const { index: slot, running } of this.#slots) {
      if (!running) continue
      const tokens = running.pending.length
      if (!running.job.exact || running.generated > 0) pending.push({ slot, tokens })
      else exact ??= { slot, tokens: Math.min(tokens, exactPromptTokens, this.#parts.batchTokens) }
    }
    const alone = exact && { plan: [exact], companions: [] }
    const wasExact = this.#readExact
    this.#readExact = false
    if (!alone || wasExact) {
      const { batchTokens } = this.#parts
      const together = planBatch(pending, { batchTokens, promptTokensMax: this.#promptTokensMax })
      const found = this.#takeCompanions(together)
      if (found.plan.length > 0) return found
      // Those left out wait for a neighbour that reads its prompt; if there is none, to go on comes before bits.
      if (!alone) return { plan: together, companions: [] }
    }
    this.#readExact = true
    return alone
  }

  async #decodeStep(plan: readonly Pending[], companions: readonly Slot[]): Promise<void> {
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
      for (const slot of companions) this.#forget(slot)
      return this.#decodeApart(plan, error)
    }
    for (const slot of companions) this.#restore(slot)
    for (const part of plan) this.#commit(part)
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

  /** Sees to it that exact sequences are not decoded alone; leaves out of `plan` those that would be. */
  #takeCompanions(plan: readonly Pending[]): { plan: Pending[]; companions: Slot[] } {
    const slotAt = (index: number) => this.#slots[index] as Slot
    const { companions, left } = planCompanions({
      batch: plan.map(({ slot }) => slot),
      isExact(index) {
        const { running } = slotAt(index)
        return running !== null && running.job.exact && running.generated > 0
      },
      isIdle: (index) => slotAt(index).running === null,
      slots: this.#slots.length,
    })
    return { plan: plan.filter(({ slot }) => !left.includes(slot)), companions: companions.map(slotAt) }
  }

  /** Adds all tokens in the order of their sequences; returns the handles of each part of the plan. */
  #fillBatch(plan: readonly Pending[], companions: readonly Slot[]): ArrayLike<number>[] {
    const handles: ArrayLike<number>[] = []
    const waiting = [...companions].sort((a, b) => a.index - b.index)
    for (const part of plan) {
      while (waiting[0] && waiting[0].index < part.slot) this.#addCompanion(waiting.shift() as Slot)
      handles.push(this.#addToBatch(part))
    }
    for (const slot of waiting) this.#addCompanion(slot)
    return handles
  }

  #addCompanion(slot: Slot): void {
    if (slot.held.length >= this.#parts.contextTokens) this.#forget(slot)
    oneToken[0] = slot.held[0] ?? 0
    this.#parts.native.addToBatch(slot.index, slot.held.length, oneToken, noIndex)
  }

  /** Takes the companion's token out of the cache again. */
  #restore(slot: Slot): void {
    const length = slot.held.length
    if (length === 0 || !this.#parts.native.cutSequence(slot.index, length)) this.#forget(slot)
  }

  /** A batch failed as a whole: each sequence is tried alone, so that one at fault takes no other with it. */
  async #decodeApart(plan: readonly Pending[], cause: unknown): Promise<void> {
    for (const part of plan) {
      const slot = this.#slots[part.slot] as Slot
      if (plan.length === 1) {
        this.#fail(slot, cause)
        continue
      }
      try {
        if (slot.held.length === 0) this.#parts.native.clearSequence(slot.index)
        else if (!this.#parts.native.cutSequence(slot.index, slot.held.length)) throw cause
        this.#parts.native.initBatch(part.tokens)
        const handles = this.#addToBatch(part)
        await this.#parts.native.decodeBatch()
        this.#commit(part)
        await this.#sampleSlot(part, handles)
      } catch (error) {
        this.#fail(slot, error)
      }
    }
    this.#flush()
  }

  #fail(slot: Slot, error: unknown): void {
    const job = slot.running?.job
    this.#release(slot)
    this.#forget(slot)
    job?.sink.onError(error)
  }

  #addToBatch(part: Pending): ArrayLike<number> {
    const slot = this.#slots[part.slot] as Slot
    const running = slot.running as Running
    const position = slot.held.length
    assert(position + part.tokens <= this.#parts.contextTokens, 'decoding past the end of the context')
    if (part.tokens === 1 && running.pending.length === 1) {
      oneToken[0] = running.pending[0] as number
      return this.#parts.native.addToBatch(slot.index, position, oneToken, firstIndex)
    }
    const tokens = Uint32Array.from(running.pending.slice(0, part.tokens))
    const isLast = part.tokens === running.pending.length
    const indexes =
      running.promptLeft > 0
        ? Uint32Array.from(tokens.keys())
        : isLast
          ? Uint32Array.of(part.tokens - 1)
          : noIndex
    return this.#parts.native.addToBatch(slot.index, position, tokens, indexes)
  }

  /** The tokens of the batch are in the cache now. */
  #commit(part: Pending): void {
    const slot = this.#slots[part.slot] as Slot
    const running = slot.running as Running
    if (part.tokens === 1) slot.held.push(running.pending[0] as number)
    else slot.held = slot.held.concat(running.pending.slice(0, part.tokens))
    running.pending = running.pending.slice(part.tokens)
  }

  async #sampleSlot(part: Pending, handles: ArrayLike<number>): Promise<void> {
    const slot = this.#slots[part.slot] as Slot
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
        job.topLogprobs === null ? null : await this.#readLogprobs(handle, token, job.topLogprobs)
      this.#accept(slot, running, token, logprobs)
    } catch (error) {
      this.#fail(slot, error)
    }
  }

  #accept(slot: Slot, running: Running, token: number, logprobs: TokenLogprobs | null): void {
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

  #end(slot: Slot, reason: EndReason): void {
    const job = (slot.running as Running).job
    this.#release(slot)
    job.sink.onEnd(reason)
    this.#flushes.push(job)
  }

  #flush(): void {
    if (this.#flushes.length === 0) return
    const jobs = this.#flushes
    this.#flushes = []
    for (const job of jobs) job.sink.onFlush()
  }

  async #readPromptLogprobs(slot: Slot, running: Running, part: Pending, handles: ArrayLike<number>) {
    const { job } = running
    const first = slot.held.length - part.tokens
    const found: TokenLogprobs[] = []
    for (let i = 0; i < part.tokens; i += 1) {
      const next = job.prompt[first + i + 1]
      // Behind the last prompt token comes the first generated one, which is sampled and not read.
      if (next === undefined) break
      found.push(await this.#readLogprobs(handles[i] as number, next, job.topLogprobs ?? 0))
    }
    running.promptLeft -= found.length
    job.sink.onPromptLogprobs?.(found)
  }

  async #readLogprobs(handle: number, token: number, top: number): Promise<TokenLogprobs> {
    const wanted = { tokens: [token], top: Math.max(1, top) }
    const { pairs, expSum } = await this.#parts.native.readLogits(handle, this.#probe, wanted)
    const sorted = [...pairs].sort((a, b) => b[1] - a[1])
    const offset = (sorted[0] as [number, number])[1] + Math.log(expSum)
    return {
      token,
      logprob: (pairs.get(token) as number) - offset,
      top: sorted.slice(0, top).map(([id, logit]) => ({ token: id, logprob: logit - offset })),
    }
  }

  /** Ends the loop's use of native memory; nothing may run or wait. */
  dispose(): void {
    this.#probe.dispose()
  }
}
