import type { EndReason, Job, JobSink, TokenLogprobs } from './job.ts'
import { StopMatcher } from './stop.ts'
import { TextAssembler } from './text.ts'
import type { Vocabulary } from './vocabulary.ts'

export type FinishReason = 'stop' | 'length'

/** What one choice of a reply hears. Calls come after the next decoding has begun, so writing delays nothing. */
export type ChoiceEvents = {
  onText(text: string, logprobs: readonly TokenLogprobs[]): void
  onFinish(reason: FinishReason): void
  onError(error: unknown): void
}

/** Turns the tokens of one sequence into text that may be given out: whole characters, and no part of a stop. */
export class Choice implements JobSink {
  cachedTokens = 0
  generatedTokens = 0
  readonly promptLogprobs: TokenLogprobs[] = []
  readonly #vocabulary: Vocabulary
  readonly #events: ChoiceEvents
  readonly #assembler = new TextAssembler()
  readonly #stops: StopMatcher
  /** Text that is safe, and not yet given out. */
  #text = ''
  #assembled = 0
  #released = 0
  #logprobs: { entry: TokenLogprobs; start: number }[] = []
  #finish: FinishReason | null = null
  #stopped = false

  constructor(vocabulary: Vocabulary, stops: readonly string[], events: ChoiceEvents) {
    this.#vocabulary = vocabulary
    this.#stops = new StopMatcher(stops)
    this.#events = events
  }

  onStart(cached: number): void {
    this.cachedTokens = cached
  }

  onPromptLogprobs(part: TokenLogprobs[]): void {
    this.promptLogprobs.push(...part)
  }

  onToken(token: number, logprobs: TokenLogprobs | null): boolean {
    this.generatedTokens += 1
    const piece = this.#assembler.push(this.#vocabulary.piece(token))
    if (logprobs) this.#logprobs.push({ entry: logprobs, start: this.#assembled })
    this.#assembled += piece.length
    const { text, stopped } = this.#stops.push(piece)
    this.#text += text
    this.#released += text.length
    this.#stopped = stopped
    return !stopped
  }

  onEnd(reason: EndReason): void {
    if (!this.#stopped) {
      const rest = this.#stops.flush()
      this.#text += rest
      this.#released += rest.length
    }
    this.#finish = reason === 'length' ? 'length' : 'stop'
  }

  onFlush(): void {
    const logprobs = this.#takeLogprobs()
    if (this.#text !== '' || logprobs.length > 0) {
      const text = this.#text
      this.#text = ''
      this.#events.onText(text, logprobs)
    }
    if (this.#finish === null) return
    const reason = this.#finish
    this.#finish = null
    this.#events.onFinish(reason)
  }

  onError(error: unknown): void {
    this.#events.onError(error)
  }

  /** Those of tokens whose text is given out; at the end also those that brought no text of their own. */
  #takeLogprobs(): TokenLogprobs[] {
    if (this.#logprobs.length === 0) return []
    const isWhole = this.#finish !== null && !this.#stopped
    const count = isWhole
      ? this.#logprobs.length
      : this.#logprobs.findIndex(({ start }) => start >= this.#released)
    const taken = this.#logprobs.splice(0, count === -1 ? this.#logprobs.length : count)
    return taken.map(({ entry }) => entry)
  }
}

/** The jobs of one prompt: the first reads it, the others find it in the cache, unless all must be exact. */
export function makeJobs(choices: readonly Choice[], job: Omit<Job, 'sink' | 'after'>): Job[] {
  const jobs: Job[] = []
  for (const [i, sink] of choices.entries()) {
    // Each choice draws differently, and the same seed still gives the same n texts.
    const seed = (job.sampling.seed + i) % 0xffff_ffff
    jobs.push({
      ...job,
      sampling: { ...job.sampling, seed },
      after: job.exact ? null : (jobs[0] ?? null),
      sink,
    })
  }
  return jobs
}
