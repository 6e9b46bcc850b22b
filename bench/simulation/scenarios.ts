import { tokensPerBlock, type TracedRequest } from './trace.ts'

export type Scenario = {
  name: string
  instances: readonly { speed: number; weight: number }[]
  changes: readonly { atMs: number; instance: number; speed: number }[]
  /** How much faster than recorded the requests come; chosen for the load that is wanted under round robin. */
  speedup: number
  streamedShare: number
  reshape: (request: TracedRequest, random: () => number) => TracedRequest
}

const equal = Array.from({ length: 8 }, () => ({ speed: 1, weight: 1 }))
const slower = equal.map((instance, i) => (i < 6 ? instance : { speed: 0.7, weight: 1 }))

const base: Omit<Scenario, 'name'> = {
  instances: equal,
  changes: [],
  speedup: 1.53,
  streamedShare: 1,
  reshape: (request) => request,
}

/**
 * Seven ways in which eight instances meet the same hour of traffic. The load is the highest at which round robin does
 * not yet drown, about three quarters of what
 * the fleet can take where its instances are alike.
 */
export const scenarios: readonly Scenario[] = [
  { ...base, name: 'eight equal instances' },
  { ...base, name: 'two of them at 0.7 of the speed', instances: slower, speedup: 1.36 },
  {
    ...base,
    name: 'the same, and the weights say so',
    instances: slower.map(({ speed }) => ({ speed, weight: speed })),
    speedup: 1.36,
  },
  {
    ...base,
    name: 'two at 0.4 and two at 0.25 of the speed',
    instances: [1, 1, 1, 1, 0.4, 0.4, 0.25, 0.25].map((speed) => ({ speed, weight: 1 })),
    speedup: 0.45,
  },
  {
    ...base,
    name: 'one falls to a third of its speed for five minutes',
    changes: [
      { atMs: 600_000, instance: 3, speed: 1 / 3 },
      { atMs: 900_000, instance: 3, speed: 1 },
    ],
    speedup: 1.36,
  },
  { ...base, name: 'equal, half of the answers not streamed', streamedShare: 0.5 },
  { ...base, name: 'equal, short prompts and long answers', reshape: turnIntoLongAnswer, speedup: 1.6 },
]

/** A sixth of the prompt and six times the answer, more or less: the fleet then works on answers, not on prompts. */
function turnIntoLongAnswer(request: TracedRequest, random: () => number): TracedRequest {
  const inputTokens = Math.ceil(request.inputTokens / 6)
  return {
    ...request,
    inputTokens,
    outputTokens: Math.ceil(request.outputTokens * 6 * (0.3 + 1.4 * random())),
    blocks: request.blocks.slice(0, Math.floor(inputTokens / tokensPerBlock)),
  }
}
