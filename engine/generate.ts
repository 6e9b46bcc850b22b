import type { LlamaGrammar } from 'node-llama-cpp'
import { fail } from '../src/core/errors.ts'
import type { Call } from './call.ts'
import { Choice, type FinishReason, makeJobs } from './choice.ts'
import type { Engine } from './engine.ts'
import type { TokenLogprobs } from './job.ts'
import type { Prompt } from './prompt.ts'

export type TokenCounts = { prompt: number; generated: number; cached: number }

/** A reply on its way to the caller; `index` numbers its choices. */
export type Reply = {
  onText(index: number, text: string, logprobs: readonly TokenLogprobs[], choice: Choice): void
  onFinish(index: number, reason: FinishReason, choice: Choice): void
  /** All choices have finished. */
  end(tokens: TokenCounts): void
}

export type Plan = {
  call: Call & { prompts: readonly Prompt[] }
  tokensMax: number
  grammar: LlamaGrammar | null
  topLogprobs: number | null
  promptLogprobs: boolean
}

/** @throws invalid_request when a request asks for more sequences than could ever be taken in. */
export function assertRoom(choices: number, engine: Engine): void {
  const { jobsMax } = engine.scheduler
  if (choices <= jobsMax) return
  throw fail('invalid_request', {
    message: `\`n\` times the number of prompts is ${choices}; this instance takes ${jobsMax} at once.`,
    param: 'n',
  })
}

/** Generates all choices of a request. Resolves once `reply` has ended; rejects at the first error of any choice. */
export function generate(plan: Plan, reply: Reply, engine: Engine, signal: AbortSignal): Promise<void> {
  const { call } = plan
  return new Promise((resolve, reject) => {
    let open = call.prompts.length * call.n
    const makeChoice = (index: number) => {
      const choice: Choice = new Choice(engine.loaded.vocabulary, call.stops, {
        onText: (text, logprobs) => reply.onText(index, text, logprobs, choice),
        onFinish: (reason) => {
          reply.onFinish(index, reason, choice)
          open -= 1
          if (open > 0) return
          reply.end(countTokens(call, choices))
          resolve()
        },
        onError: reject,
      })
      return choice
    }
    const choices = Array.from({ length: open }, (_, index) => makeChoice(index))
    const jobs = call.prompts.flatMap((prompt, p) =>
      makeJobs(choices.slice(p * call.n, (p + 1) * call.n), {
        prompt: prompt.tokens,
        tokensMax: Math.min(plan.tokensMax, engine.loaded.contextTokens - prompt.tokens.length),
        sampling: call.sampling,
        grammar: plan.grammar,
        topLogprobs: plan.topLogprobs,
        promptLogprobs: plan.promptLogprobs,
        ignoreEnd: call.ignoreEnd,
        exact: call.exact,
      }),
    )
    engine.scheduler.submit(jobs, signal)
  })
}

/** A prompt counts once, however many replies it has. */
function countTokens(call: Plan['call'], choices: readonly Choice[]): TokenCounts {
  let [prompt, generated, cached] = [0, 0, 0]
  for (const [i, choice] of choices.entries()) {
    generated += choice.generatedTokens
    if (i % call.n !== 0) continue
    prompt += (call.prompts[i / call.n] as Prompt).tokens.length
    cached += choice.cachedTokens
  }
  return { prompt, generated, cached }
}
