import type { Clock } from '../src/core/clock.ts'
import type { Embedder } from './embeddings.ts'
import { createGrammars, type Grammars } from './grammar.ts'
import { createMetrics, type EngineMetrics } from './metrics.ts'
import type { LoadedModel } from './model.ts'
import type { EngineOptions } from './options.ts'
import { Scheduler } from './scheduler.ts'
import { createChatTemplate, type ChatTemplate } from './template.ts'

/** What the routes work with. */
export type Engine = {
  loaded: LoadedModel
  scheduler: Scheduler
  embedder: Embedder
  metrics: EngineMetrics
  grammars: Grammars
  template: ChatTemplate
  clock: Clock
  /** Seconds since the epoch at which the model was loaded: its `created`. */
  loadedAtS: number
}

export function createEngine(input: {
  loaded: LoadedModel
  embedder: Embedder
  options: EngineOptions
  clock: Clock
}): Engine {
  const { loaded, options, clock } = input
  const grammars = createGrammars(loaded)
  const metrics = createMetrics(loaded.name)
  const scheduler = new Scheduler({
    native: loaded.native,
    clock,
    slots: options.parallel,
    waitingMax: options.waitingMax,
    contextTokens: loaded.contextTokens,
    batchTokens: loaded.batchTokens,
    canCut: loaded.canCut,
    isEnd: loaded.isEnd,
    endTokens: loaded.endTokens,
    openGrammar: (grammar) => grammars.open(grammar),
    observe: metrics.observer,
  })
  metrics.watch(() => scheduler.counts)
  return {
    loaded,
    scheduler,
    embedder: input.embedder,
    metrics,
    grammars,
    template: createChatTemplate(loaded),
    clock,
    loadedAtS: Math.floor(clock.wallMs() / 1000),
  }
}
