import { configRule } from '../../src/config/knobs.ts'
import type { Config } from '../../src/config/schema.ts'
import { applyRule } from '../../src/config/validate.ts'
import type { AdmissionSettings } from '../../src/gateway/admission/model-gate.ts'
import type { Ask } from '../../src/router/call.ts'
import { engineSpec, ModelInstance, type EngineSpec } from './model-instance.ts'
import type { OverloadRequest } from './simulate-overload.ts'

export const admissionDefaults: AdmissionSettings = (applyRule(configRule, {}, []).value as Config).admission

type Sizes = Pick<OverloadRequest, 'inputTokens' | 'outputTokens'>

/** Questions of a chat: prompts of 50 to 2,000 tokens, answers of 20 to 400. */
const drawChat = (random: () => number): Sizes => ({
  inputTokens: Math.ceil(50 * 40 ** random()),
  outputTokens: Math.ceil(20 * 20 ** random()),
})

/** Arrivals at random moments, `perSecond` on average, from `fromMs` to `toMs`. */
export function drawArrivals(options: {
  perSecond: number
  fromMs: number
  toMs: number
  random: () => number
  tenant?: string
  weight?: number
  tier?: (random: () => number) => Ask['tier']
  streamed?: (random: () => number) => boolean
  sizes?: (random: () => number) => Sizes
  patienceMs?: number
  deadlineMs?: number | null
}): OverloadRequest[] {
  const { perSecond, fromMs, toMs, random } = options
  const requests: OverloadRequest[] = []
  for (let atMs = fromMs; ;) {
    atMs += (-Math.log(1 - random()) / perSecond) * 1000
    if (!(atMs < toMs)) return requests
    requests.push({
      atMs,
      ...(options.sizes ?? drawChat)(random),
      streamed: options.streamed?.(random) ?? true,
      tenant: options.tenant ?? 'a',
      weight: options.weight ?? 1,
      tier: options.tier?.(random) ?? 'default',
      patienceMs: options.patienceMs ?? Infinity,
      deadlineMs: options.deadlineMs ?? null,
    })
  }
}

export const merge = (...lists: readonly OverloadRequest[][]): OverloadRequest[] =>
  lists.flat().sort((one, other) => one.atMs - other.atMs)

/** What one instance answers a second with all its sequences taken, and one more ready whenever one ends. */
export function measureCapacity(options: {
  random: () => number
  sizes?: (random: () => number) => Sizes
  spec?: EngineSpec
  ms?: number
}): number {
  const { random, sizes = drawChat, spec = engineSpec, ms = 120_000 } = options
  let ended = 0
  let nowMs = 0
  const instance: ModelInstance = new ModelInstance({
    ...{ id: 'i', weight: 1, speed: 1, spec, observe: () => {}, onFirstToken: () => {} },
    onEnd: () => (ended += 1),
  })
  const begin = () =>
    instance.accept({ atMs: nowMs, ...sizes(random), blocks: [], sessionKey: '', streamed: true }, nowMs)
  for (let i = 0; i < spec.sequencesMax; i += 1) begin()
  while (nowMs < ms) {
    nowMs = instance.nextEventMs()
    instance.advance(nowMs)
    while (instance.inFlight < spec.sequencesMax) begin()
  }
  return (ended / nowMs) * 1000
}
